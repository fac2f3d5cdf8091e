"""What only a GPU can confirm. Without one these tests are skipped, and the README says what was run and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import perturb

from drun.console import silent
from drun.diffusion import process as processes
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.samplers import step_table
from dtrain import config, device, models
from dtrain.checkpoints import ours
from dtrain.config import Recipe
from dtrain.train.loop import train

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # torch.compile's own
]


@pytest.fixture(autouse=True)
def _no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch computes the convolutions of float32 in tf32 unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


MODELS = (
    {"name": "TwoResUNet", "dim": 16, "dim_mults": [1, 2], "channels": 1},
    {"name": "SiT", "input_size": 16, "patch_size": 2, "channels": 4, "num_classes": 5,
     "size": {"hidden_size": 64, "depth": 3, "num_heads": 4}},
    {"name": "DiT", "input_size": 16, "patch_size": 2, "channels": 4, "num_classes": 5,
     "size": {"hidden_size": 64, "depth": 3, "num_heads": 4}},
)  # fmt: skip


def awake(model: dict[str, object]) -> torch.nn.Module:
    torch.manual_seed(0)
    return perturb(models.build(model)).eval()


def inputs(model: dict[str, object]) -> list[torch.Tensor]:
    torch.manual_seed(1)
    channels = int(str(model["channels"]))
    states, times = torch.randn(4, channels, 16, 16), torch.tensor([0.1, 0.3, 0.7, 0.9])
    return [states, times, *([torch.tensor([0, 1, 2, 3])] if "num_classes" in model else [])]


def relative_l2(got: torch.Tensor, wanted: torch.Tensor) -> float:
    got, wanted = got.detach().double().cpu(), wanted.detach().double().cpu()
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model["name"]))
@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-5), ("bf16", 6e-2), ("fp16", 1e-2)])
def test_outputs_and_gradients_are_those_of_the_processor(
    model: dict[str, object], precision: str, allowed: float
) -> None:
    arguments, network = inputs(model), awake(model)
    wanted = network(*arguments)
    wanted.square().mean().backward()
    gradient = flat_gradient(network)
    network.zero_grad()
    network.cuda()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with torch.autocast("cuda", dtype, enabled=precision != "fp32"):
        got = network(*(tensor.cuda() for tensor in arguments))
    got.float().square().mean().backward()
    assert relative_l2(got, wanted) < allowed
    assert relative_l2(flat_gradient(network), gradient) < 2 * allowed


def flat_gradient(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([each.grad.flatten().cpu() for each in network.parameters() if each.grad is not None])


def tiny(name: str, *more: str) -> Recipe:
    sizes = {"digits-unet": ("model.dim=8", "model.dim_mults=[1,2]"), "digits-sit": ()}
    usual = ("train.steps=8", "train.batch_size=8", "train.log_every=2", "train.save_every=4", "train.preview_every=8",
             "train.num_previews=2", "train.preview_steps=4", "optimizer.decay_share=0")  # fmt: skip
    return config.load(name, [*sizes[name], *usual, *more])


@pytest.mark.parametrize("name", ["digits-unet", "digits-sit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_run_goes_on_where_it_stopped(tmp_path: Path, name: str, precision: str, compile: str) -> None:
    placement = device.choose("cuda", precision, compile)
    whole = ours.read(train(tiny(name), tmp_path / "whole", placement, False, silent))
    train(tiny(name, "train.steps=4"), tmp_path / "halves", placement, False, silent)
    halves = ours.read(train(tiny(name), tmp_path / "halves", placement, True, silent))
    assert whole.step == halves.step == 8
    for key, wanted in whole.model.items():
        assert torch.isfinite(wanted).all()
        assert relative_l2(halves.model[key], wanted) < 1e-3, key
    assert list((tmp_path / "whole" / "previews").glob("*.png"))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m", "heun"])
def test_the_loop_walks_the_same_way_on_the_device(sampler: str) -> None:
    process = processes.from_dict({"kind": "discrete", "schedule": "cosine", "num_timesteps": 1000})
    table, shape = step_table(sampler, process, "noise", 20, {}), (3, 8, 8)

    def walk(on: str) -> torch.Tensor:
        noise = PhiloxNoise(0, range(4), shape)

        def draw() -> torch.Tensor:
            return torch.from_numpy(noise()).to(on)

        return sample(lambda x, t, w: 0.9 * x + 0.01 * np.sin(t), draw(), table, draw)

    assert relative_l2(walk("cuda"), walk("cpu")) < 1e-6
