"""The VAE's moments and its decoder, against diffusers' own layers and formulas written out here."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from networks import perturb
from safetensors.torch import load_file, save_file
from torch import Tensor

from drun.errors import ConfigError
from dtrain.models import vae as vaes

WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_model(**config: Any) -> Any:
    """A VAE of 8x downsampling whose every weight matters, and whose log-variances run into both of their limits."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
        **config,
    }
    model: Any = perturb(AutoencoderKL(**settings))
    with torch.no_grad():
        channels = model.config.latent_channels
        model.quant_conv.bias[channels] = 40.0  # a log-variance that is cut at 20
        model.quant_conv.bias[channels + 1] = -60.0  # and one at -30
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model().eval()


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def vae(folder: Path) -> vaes.Vae:
    return vaes.load(str(folder), "cpu")


@pytest.fixture
def edited(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the VAE with other weights or another config."""

    def edit(weights: Callable[[dict[str, Tensor]], Any] | None = None, **config: Any) -> Path:
        path = shutil.copytree(folder, tmp_path / "edited", dirs_exist_ok=True)
        content = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**content, **config}))
        tensors = load_file(path / WEIGHTS)
        if weights:
            weights(tensors)
        save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
        return path

    return edit


def some_images() -> Tensor:
    return torch.randint(0, 256, (3, 32, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# ---- moments --------------------------------------------------------------------------------------------


def test_moments_are_mean_and_standard_deviation(model: Any, vae: vaes.Vae) -> None:
    images = some_images()
    x = torch.from_numpy((images.numpy().astype(np.float64) / 127.5 - 1).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        mean, logvar = model.quant_conv(model.encoder(x)).double().chunk(2, dim=1)
    assert logvar.max() > 20
    assert logvar.min() < -30
    expected = torch.cat([mean, torch.exp(0.5 * logvar.clamp(-30, 20))], dim=1)
    moments = vae.moments(images)
    assert moments.dtype == torch.float32
    assert moments.shape == (3, 8, 4, 5)
    torch.testing.assert_close(moments.double(), expected, rtol=1e-5, atol=1e-6)


def test_moments_keep_float32_and_the_graph_empty(vae: vaes.Vae) -> None:
    images, expected = some_images(), vae.moments(some_images())
    tf32 = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        moments = vae.moments(images)
    assert torch.equal(moments, expected)
    assert not moments.requires_grad
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert not any(parameter.requires_grad for parameter in vae.model.parameters())
    assert not any(module.training for module in vae.model.modules())


# ---- what a VAE says of itself --------------------------------------------------------------------------


def test_stable_diffusion_constants(vae: vaes.Vae) -> None:
    assert (vae.latent_channels, vae.downsampling) == (4, 8)
    assert vae.scale == (0.18215,) * 4
    assert vae.bias == (0.0,) * 4


def test_shift_and_channel_statistics(edited: Callable[..., Path]) -> None:
    vae = vaes.load(str(edited(scaling_factor=0.5, shift_factor=0.25)), "cpu")
    assert vae.scale == (0.5,) * 4
    assert vae.bias == (-0.125,) * 4  # (latent - 0.25) * 0.5
    means, stds = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 8.0]
    vae = vaes.load(str(edited(scaling_factor=0.5, shift_factor=None, latents_mean=means, latents_std=stds)), "cpu")
    assert vae.scale == (0.5, 0.25, 0.125, 0.0625)
    assert vae.bias == (-0.5, -0.5, -0.375, -0.25)


def test_fingerprint_is_of_config_and_weights(
    vae: vaes.Vae, model: Any, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def nudge(tensors: dict[str, Tensor]) -> None:
        tensors["decoder.conv_out.bias"] += 1e-6

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path / "bin", safe_serialization=False)
    assert vaes.load(str(tmp_path / "bin"), "cpu").fingerprint == vae.fingerprint
    assert vaes.load(str(edited()), "cpu").fingerprint == vae.fingerprint
    assert vaes.load(str(edited(nudge)), "cpu").fingerprint != vae.fingerprint
    assert vaes.load(str(edited(scaling_factor=0.2)), "cpu").fingerprint != vae.fingerprint


def test_old_names_of_attention_weights(vae: vaes.Vae, edited: Callable[..., Path]) -> None:
    """As in stabilityai/sd-vae-ft-mse."""

    def age(tensors: dict[str, Tensor]) -> None:
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            for name in [name for name in tensors if f".{new}." in name]:
                tensors[name.replace(new, old)] = tensors.pop(name)

    path = edited(age)
    assert any("query" in name for name in load_file(path / WEIGHTS))
    assert vaes.load(str(path), "cpu").fingerprint == vae.fingerprint


def test_half_precision_files_become_float32(edited: Callable[..., Path]) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    vae = vaes.load(str(edited(halve)), "cpu")
    assert {parameter.dtype for parameter in vae.model.parameters()} == {torch.float32}


# ---- decoder --------------------------------------------------------------------------------------------


def test_decoder_undoes_scale_and_bias(edited: Callable[..., Path]) -> None:
    vae = vaes.load(str(edited(shift_factor=0.25, latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])))
    latent = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(2))
    scale, bias = (np.array(values).reshape(4, 1, 1) for values in (vae.scale, vae.bias))
    z = torch.from_numpy((latent.numpy() * scale + bias).astype(np.float32))
    decoder = vaes.Decoder(vae)
    with torch.no_grad():
        images, expected = decoder(z), vae.model.decode(latent).sample
    assert images.shape == (2, 3, 40, 48)
    assert images.std() > 0.1
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
    assert not decoder.training
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    assert not {p.data_ptr() for p in decoder.parameters()} & {p.data_ptr() for p in vae.model.parameters()}


@pytest.mark.slow  # the exporter, on a busy machine
def test_decoder_exports_to_onnx_with_any_batch(vae: vaes.Vae, tmp_path: Path) -> None:
    decoder, path = vaes.Decoder(vae), tmp_path / "decoder.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself
        program = torch.onnx.export(
            decoder, (torch.zeros(2, 4, 8, 8),), dynamo=True, opset_version=20, verbose=False,
            dynamic_shapes=({0: batch},), input_names=["z"], output_names=["images"],
        )  # fmt: skip
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for num_images in (1, 3, 64):
        z = torch.randn(num_images, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        images = session.run(None, {"z": z.numpy()})[0]
        expected = decoder(z).numpy()
        assert expected.std() > 0.1
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)


# ---- errors ---------------------------------------------------------------------------------------------


def refuses(name: str | Path, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        vaes.load(str(name), "cpu")
    assert "\n" not in str(caught.value)


def test_no_such_vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    refuses(tmp_path / "missing", "unknown VAE .*missing': no such folder, and not a name such as owner/name")
    refuses("vae", "unknown VAE 'vae'")
    (tmp_path / "empty").mkdir()
    refuses(tmp_path / "empty", "cannot read .*config.json.*; give a folder that holds its config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refuses("nobody/no-such-vae", "'nobody/no-such-vae' .*; check the name and the connection, or give a folder")


def test_damaged_vae(edited: Callable[..., Path]) -> None:
    refuses(edited(lambda tensors: tensors.pop("quant_conv.bias")), "got missing weights quant_conv.bias; expected")
    extra = {"stray": torch.zeros(1)}
    refuses(edited(lambda tensors: tensors.update(extra)), "got unexpected weights stray; expected an AutoencoderKL")
    other = {"stray": torch.zeros(1), "quant_conv.bias": torch.zeros(5)}
    refuses(edited(lambda tensors: tensors.update(other)), "cannot load the VAE .*quant_conv.bias expected shape")
    path = edited()
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:5000])
    refuses(path, "cannot load the VAE .*; give a folder")
    (path / "config.json").write_text("{")
    refuses(path, "cannot read .*config.json.*; give a folder")


@pytest.mark.parametrize(
    "change",
    [
        {"latents_std": [0.0] * 4}, {"latents_std": [1.0] * 3}, {"latents_mean": [1.0, 2.0]}, {"scaling_factor": "x"},
        {"scaling_factor": None}, {"latent_channels": 60_000}, {"layers_per_block": 10**6}, {"norm_num_groups": 0},
        {"block_out_channels": []}, {"scaling_factor": 10**400}, {"act_fn": "evil"}, {"shift_factor": 1e308},
    ],
)  # fmt: skip
def test_wrong_configurations(edited: Callable[..., Path], change: dict[str, Any]) -> None:
    refuses(edited(**change), "VAE '.*edited'")


def test_vae_of_other_channels(tmp_path: Path) -> None:
    tiny_model(in_channels=1, out_channels=1).save_pretrained(tmp_path)
    refuses(tmp_path, r"has \(1, 1\) image channels, expected 3 in and 3 out")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "config.json", tmp_path)
    torch.save({"quant_conv.bias": Trap(tmp_path / "sprung")}, tmp_path / "diffusion_pytorch_model.bin")
    refuses(tmp_path, "cannot load the VAE")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # it would have


def test_without_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    refuses(folder, r"needs diffusers.*: install it with: pip install 'dexport\[latents\]'")


def test_an_unreachable_hub_costs_no_retries_and_no_import(tmp_path: Path) -> None:
    """By the real client of the hub, of somebody who hangs up."""
    code = """
import sys
from drun.errors import ConfigError
from dtrain.models import vae
try:
    vae.load("owner/name")
except ConfigError as error:
    print(error, "diffusers" in sys.modules)
"""
    calls = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        child = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        server.settimeout(0.2)
        deadline = time.monotonic() + 120
        while child.poll() is None:
            if time.monotonic() > deadline:
                child.kill()
            with suppress(TimeoutError):
                calls.append(server.accept()[0].close())
        said = child.communicate()[0]
    assert 1 <= len(calls) <= 2  # its client connects anew at once, and no more
    assert "cannot get 'owner/name' from the Hugging Face hub: 127.0.0.1 cannot be reached" in said
    assert said.endswith(" False\n")


def test_model_range() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(2, 16, 16, 3)
    scaled = vaes.to_model_range(levels)
    assert scaled.shape == (2, 3, 16, 16)
    assert scaled.dtype == torch.float32
    assert scaled.is_contiguous()
    assert (scaled.min(), scaled.max()) == (-1.0, 1.0)
    assert torch.equal(torch.round((scaled + 1) * 127.5).to(torch.uint8), levels.permute(0, 3, 1, 2))
