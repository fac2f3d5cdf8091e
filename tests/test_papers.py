"""250 steps of SiT-S/2 and DiT-S/2, from a published-like file through dexport and drun, against the papers' formulas.

The network is the exported one on both sides, in float32; noise and labels are given, the state is float64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from exporting import export, load_trained
from papers import Array, Network, dit, repa_sde, sit_sde
from torch import nn

from drun import cli
from drun.bundle import reading as bundles
from dtrain import models

STEPS, NUM_IMAGES, SIDE = 250, 2, 4
LABELS, NULL = np.array([207, 360]), 1000
#: process -> (model, keys that only REPA's files have)
FILES = {"sit": "SiT-S-2-256x256.pt", "repa": "last.pt", "dit": "DiT-S-2-256x256.pt"}


def network_of(process: str) -> nn.Module:
    """SiT-S/2 or DiT-S/2 on 4x4 latents, with weights that are nowhere zero."""
    torch.manual_seed(0)
    config = {"name": "SiT" if process == "repa" else "DiT", "input_size": SIDE, "size": "S"}
    network = models.build(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name != "pos_embed":
                parameter += 0.02 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module", params=[pytest.param(one, marks=pytest.mark.slow) for one in FILES])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A bare state dict under its published name, and its bundle."""
    process, folder = request.param, tmp_path_factory.mktemp(request.param)
    state = network_of(process).state_dict()
    if process == "repa":
        state |= {"projectors.0.0.weight": torch.zeros(2048, 384), "projectors.0.0.bias": torch.zeros(2048)}
    path = folder / FILES[process]
    torch.save(state, path)
    # Guided in every step, two images are always a batch of four.
    export(load_trained(path), folder / "bundle", batch=(1, 8) if process == "repa" else (2 * NUM_IMAGES,) * 2)
    return process, folder / "bundle"


def guided(bundle: Path, weight: float, channels: int, low: float, high: float) -> Network:
    """Classifier-free guidance on some channels within an interval of the model's time."""
    session = onnxruntime.InferenceSession(str(bundle / "denoiser.fp32.onnx"))

    def call(x: Array, t: float, labels: Array) -> Array:
        feeds = {"x": x.astype(np.float32), "t": np.full(len(x), t, np.float32), "y": labels}
        return np.asarray(session.run(["out"], feeds)[0]).astype(np.float64)

    def network(x: Array, t: float) -> Array:
        if not low <= t <= high:
            return call(x, t, LABELS)
        both = call(np.concatenate([x, x]), t, np.concatenate([LABELS, np.full(NUM_IMAGES, NULL)]))
        conditional, unconditional = both[:NUM_IMAGES], both[NUM_IMAGES:]
        out = conditional.copy()
        out[:, :channels] = (unconditional + weight * (conditional - unconditional))[:, :channels]
        return out

    return network


def reference(process: str, bundle: Path, x: Array, z: list[Array]) -> Array:
    if process == "repa":
        return repa_sde("linear", guided(bundle, 1.8, 4, 0.0, 0.7), x, z, STEPS)
    if process == "sit":
        return sit_sde("linear", "sigma", "mean", guided(bundle, 1.5, 3, 0.0, 1.0), x, z, STEPS)
    return dit(guided(bundle, 1.5, 3, 0, 999), x, z, STEPS)


def test_250_steps_agree_with_the_formulas(
    exported: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, bundle = exported
    assert bundles.read(bundle).manifest.guidance["channels"] == (None if process == "repa" else 3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((NUM_IMAGES, 4, SIDE, SIDE)).astype(np.float32)
    z = rng.standard_normal((STEPS - 1, NUM_IMAGES, 4, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "noise.npz", x=x, z=z)
    cfg = ["--cfg", "1.8", "--interval", "0,0.7"] if process == "repa" else ["--cfg", "1.5"]
    monkeypatch.setattr(sys, "argv", [
        "drun", "--bundle", str(bundle), "--steps", str(STEPS), "-n", "2", "--labels", "207,360", *cfg,
        "--noise", str(tmp_path / "noise.npz"), "--state-dtype", "float64", "--save-raw",
        "--out", str(tmp_path / "out"),
    ])  # fmt: skip
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    with np.load(tmp_path / "out" / "raw.npz") as raw:
        got = raw["x"]
    expected = reference(process, bundle, x.astype(np.float64), list(z.astype(np.float64)))
    assert got.dtype == np.float64
    assert np.isfinite(expected).all()
    assert np.linalg.norm(expected - x) > np.linalg.norm(x) / 10
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    print(f"{process}: relative L2 {error:.1e} after {STEPS} steps")
    assert error < 1e-5
