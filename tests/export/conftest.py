import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import STATIC, export, load_trained
from networks import perturb, small
from torch import nn
from transformer_bundles import describe, write

from dexport import targets
from dexport.quantisation import states
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained
from dexport.writer.staging import Order
from drun import backends
from drun.bundle.card import Classes, Sampler
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion.process.discrete import DiscreteProcess
from dtrain import config, models, published
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.published import Denoiser

#: Targets and backends that exist for these tests only.
PLUGINS = Path(__file__).parent / "plugins"

#: (model's name, changed keywords) -> network
BuildSmall = Callable[..., nn.Module]


@pytest.fixture(scope="session")
def build_small() -> BuildSmall:
    return small


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ours with a tiny net whose weights are nowhere zero, and online weights that differ."""
    # A linear schedule, because trajectories of very few steps are ill-conditioned on the end of a cosine.
    assignments = ["model.dim=8", "model.dim_mults=[1,2]", "process.schedule=linear", "train.steps=1"]
    recipe = config.load("digits-unet", [*assignments, "ema.law=constant", "ema.decay=0.99"])
    torch.manual_seed(0)
    network = perturb(models.build(recipe.model))
    ema = network.state_dict()
    online = {key: value + 0.1 for key, value in ema.items()}
    folder = tmp_path_factory.mktemp("run")
    return checkpoint.save(Checkpoint(recipe, 1, online, ema, {}), folder, keep=1)


@pytest.fixture(scope="session")
def trained(tiny_checkpoint: Path) -> Trained:
    return load_trained(tiny_checkpoint)


@pytest.fixture(scope="session")
def onnx_bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `trained`, with a static batch; tests copy it and do not touch it."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export(trained, out, batch=STATIC)
    return out


@pytest.fixture(scope="session")
def free_bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `trained`, for batches of 1 to 8; tests copy it and do not touch it."""
    out = tmp_path_factory.mktemp("bundles") / "free"
    export(trained, out)
    return out


@pytest.fixture(scope="session")
def few_states() -> Iterator[None]:
    """Int8 from few states and short trajectories, so that it is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "NUM_STATES", 24)
        patch.setattr(states, "NUM_STEPS", 8)
        yield


@pytest.fixture(scope="session")
def int8_bundle(free_bundle: Path, few_states: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`free_bundle` with a graph in int8; tests copy it and do not touch it."""
    folder = shutil.copytree(free_bundle, tmp_path_factory.mktemp("bundles") / "int8")
    add_artifact(folder, Order("openvino", "int8", allow_drift=True), silent)
    return folder


@pytest.fixture(scope="session")
def sit_checkpoint(build_small: BuildSmall, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like SiT's published ones: a bare state dict, half of whose head is unused. Needs num_heads=2."""
    path = tmp_path_factory.mktemp("published") / "SiT-tiny.pt"
    torch.save(build_small("DiT").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a VAE of 8 x 8 pixels a latent, whose norms do something."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    )  # fmt: skip
    for module in autoencoder.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    path = tmp_path_factory.mktemp("vae") / "tiny"
    autoencoder.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def sit(sit_checkpoint: Path) -> Denoiser:
    return published.load(sit_checkpoint, "ema", {"num_heads": "2"})


@pytest.fixture(scope="session")
def sit_bundle(sit: Denoiser, sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(sit, sit_checkpoint, tmp_path_factory.mktemp("bundles") / "sit")


@pytest.fixture(scope="session")
def dit(build_small: Any) -> Denoiser:
    sampler = Sampler("ddpm", {"variance": "learned_range", "clip_x0": False})
    return describe(
        build_small("DiT", qk_norm=True), process=DiscreteProcess(), prediction="noise", variance="learned_range",
        classes=Classes(10, 10), guided_channels=3, sampler=sampler,
    )  # fmt: skip


@pytest.fixture(scope="session")
def dit_bundle(dit: Denoiser, sit_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(dit, sit_checkpoint, tmp_path_factory.mktemp("bundles") / "dit")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The targets `eager`, of the network, and `mirror`, of ONNX, with their backends; the folder that holds them."""
    registries = {targets: "targets", backends: "backends"}
    before = set(sys.modules)
    for registry, folder in registries.items():
        monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(PLUGINS / folder)])
    yield PLUGINS
    for name in set(sys.modules) - before:
        package, _, plugin = name.rpartition(".")
        if plugin in ("eager", "mirror"):
            delattr(sys.modules[package], plugin)
            del sys.modules[name]
