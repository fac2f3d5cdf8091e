"""What does not fit is refused before torch writes past an end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

from drun.errors import CheckpointError
from dtrain.checkpoints.fit import check_optimizer, check_scaler, check_state


@pytest.fixture
def state() -> dict[str, Any]:
    """AdamW's, of a small network after a step."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return dict(get_optimizer_state_dict(network, optimizer, options=StateDictOptions(full_state_dict=True)))


def test_the_same_optimizer_fits(state: dict[str, Any]) -> None:
    check_optimizer(copy.deepcopy(state), state, "a")


def moment(name: str, change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(state: dict[str, Any]) -> None:
        state["state"]["0.weight"][name] = change(state["state"]["0.weight"][name])

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moment("exp_avg", lambda t: t[:1]), r"exp_avg of '0.weight' in a got \(1, 3\), expected \(4, 3\)"),
        (moment("exp_avg_sq", lambda t: t.flatten()), r"exp_avg_sq of '0.weight' in a got \(12,\), expected"),
        (moment("exp_avg", lambda t: t * torch.nan), "holds NaN or infinity"),
        (moment("exp_avg_sq", lambda t: -t - 1), "is negative"),
        (moment("exp_avg", lambda t: t.to(torch.complex64)), "is torch.complex64, expected plain real numbers"),
        (moment("exp_avg", lambda t: t.to(torch.int64)), "holds torch.int64, expected torch.float32"),
        (moment("exp_avg", lambda t: t.to_sparse()), "expected plain real numbers"),
        (moment("exp_avg", lambda t: None), "got nothing, expected"),
        (moment("step", lambda t: torch.ones(3)), r"step of '0.weight' in a got \(3,\), expected \(\)"),
        (moment("step", lambda t: torch.tensor(-1.0)), "is negative"),
        (moment("step", lambda t: 3), "got nothing, expected"),
        (lambda s: s["state"].pop("0.bias"), "has other parameters than the network"),
        (lambda s: s["state"].update(more=s["state"]["0.bias"]), "has other parameters than the network"),
        (lambda s: s["state"]["0.bias"].pop("exp_avg"), "has other moments of '0.bias' than AdamW"),
        (lambda s: s["state"].update({"0.bias": 3}), "has other moments of '0.bias' than AdamW"),
        (lambda s: s["param_groups"].append({}), "has other parameters"),
        (lambda s: s["param_groups"][0].update(params=["0.weight"]), "has other parameters"),
        (lambda s: s.update(param_groups=None), "has other parameters"),
        (lambda s: s.update(param_groups=[3]), "has other parameters"),
        (lambda s: s.update(param_groups=1.5), "has other parameters"),
        (lambda s: s.update(state=[1]), "has other parameters"),
        (lambda s: s.clear(), "has other parameters"),
    ],
)  # fmt: skip
def test_an_optimizer_that_does_not_fit(
    state: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    other = copy.deepcopy(state)
    change(other)
    with pytest.raises(CheckpointError, match=message):
        check_optimizer(other, state, "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.zeros(3)}, r"'w' got \(3,\), expected \(2, 3\)"),
        ({"w": torch.full((2, 3), torch.inf)}, "'w' holds NaN or infinity"),
        ({"w": torch.tensor([[0, 0, 0], [0, -torch.inf, 0]])}, "'w' holds NaN or infinity"),
        ({"w": torch.tensor([[0, 0, 0], [0, 0, torch.nan]]).half()}, "'w' holds NaN or infinity"),
        ({"w": torch.zeros(2, 3, dtype=torch.complex64)}, "'w' is torch.complex64, expected plain real numbers"),
        ({"w": torch.zeros(2, 3, dtype=torch.int32)}, "'w' holds torch.int32, expected torch.float32"),
        ({"w": "text"}, "'w' got nothing"),
        ({"w": torch.zeros(2, 3).to(torch.float8_e4m3fn)}, "'w' is torch.float8_e4m3fn, expected 16 bits a number"),
        ({"v": torch.zeros(1)}, r"'v' got \(1,\), expected nothing"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    expected = {"w": torch.zeros(2, 3), "n": torch.tensor(1)}
    check_state({"w": torch.ones(2, 3).half(), "n": torch.tensor(4)}, expected, "a file")
    with pytest.raises(CheckpointError, match=f"a file does not fit its network: {message}"):
        check_state(expected | change, expected, "a file")


def test_a_scaler_holds_numbers() -> None:
    scaler = torch.amp.GradScaler("cpu").state_dict()
    check_scaler(scaler, "a")
    for change in ({"scale": float("nan")}, {"growth_interval": -1}, {"_growth_tracker": "x"}, {"more": 1}):
        with pytest.raises(CheckpointError, match="the loss scaler in a has"):
            check_scaler(scaler | change, "a")
