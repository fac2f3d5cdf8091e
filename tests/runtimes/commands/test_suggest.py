"""The command that is suggested for a bundle has the guidance of its paper."""

from pathlib import Path
from typing import Any

import pytest

from drun.bundle.card import Card, Classes, StateSpace
from drun.commands.suggest import sample_command
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess

GUIDED = {"classes": Classes(10, 10)}


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
    card = Card(process, "noise", StateSpace.of((1, 8, 8)), **fields)
    command = sample_command(card, Path("bundles/my net"))
    assert command == f"drun --backend ort {options} --bundle 'bundles/my net'"
    assert sample_command(card, Path("b"), "openvino") == f"drun --backend openvino {options} --bundle b"
    narrow = f"drun --backend openvino --precision bf16 {options} --bundle b"
    assert sample_command(card, Path("b"), "openvino", "bf16") == narrow
