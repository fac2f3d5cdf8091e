"""Commands that are suggested can be typed as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from drun.bundle.card import Card, Classes, StateSpace
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from dtrain.published import Denoiser
from dtrain.published.suggest import bundle_of, export_command, sample_command

GUIDED = {"classes": Classes(10, 10)}


def described(process: Any, **fields: Any) -> Denoiser:
    return Denoiser(nn.Identity(), {}, Card(process, "noise", StateSpace.of((1, 8, 8)), **fields), 1, "ema", ())


def test_exporting() -> None:
    assert export_command(Path("a.pt")) == "dexport onnx a.pt"
    command = export_command(Path("my runs/a.pt"), {"process": "sit", "image_size": "32"}, "online")
    assert shlex.split(command) == [
        "dexport", "onnx", "my runs/a.pt", "--set", "process=sit", "--set", "image_size=32", "--weights", "online",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("process", "fields", "options"),
    [
        (DiscreteProcess(), {}, "--steps 250"),
        (DiscreteProcess(num_timesteps=100), {}, "--steps 100"),
        (DiscreteProcess(), GUIDED, "--steps 250 --cfg 1.5"),
        (FlowProcess(noise_time=0), GUIDED, "--steps 250 --cfg 1.5"),
        (FlowProcess(noise_time=1), GUIDED, "--steps 250 --cfg 1.8 --interval 0,0.7"),
        (FlowProcess(noise_time=1), {"classes": Classes(10, None)}, "--steps 250"),
    ],
)
def test_sampling(process: Any, fields: dict[str, Any], options: str) -> None:
    bundle = bundle_of(Path("runs/my net.pt"))
    assert bundle == Path("bundles/my net")
    assert bundle_of(Path("runs/my net.pt"), "online") == Path("bundles/my net-online")
    command = sample_command(described(process, **fields), bundle)
    assert command == f"drun --backend ort {options} --bundle 'bundles/my net'"
