"""Checks that a checkpoint fits the object that loads it: torch's fused optimizers would write past the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from drun.errors import CheckpointError

#: The numbers of fp16's loss scaler.
SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


def check_state(state: Mapping[str, Any], expected: Mapping[str, Tensor], name: str) -> None:
    """Compare a state dict with that of the network that will load it.

    Args:
        name: the name of the file that holds it, for the message.

    Raises:
        CheckpointError: naming the first key that is missing, too many, of another shape or kind, or not finite.
    """
    for key in [*expected, *state]:
        got, wanted = _shape(state.get(key)), _shape(expected.get(key))
        if got != wanted:
            raise CheckpointError(f"{name} does not fit its network: '{key}' got {got}, expected {wanted}")
        if fault := _fault(state[key], expected[key]):
            raise CheckpointError(f"{name} does not fit its network: '{key}' {fault}; copy it again")


def check_optimizer(state: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> None:
    """Compare an optimizer's state with a fresh one of the same parameters.

    Args:
        state, expected: `{"state": {parameter: {moment: tensor}}, "param_groups": [{"params": [parameter]}]}`.

    Raises:
        CheckpointError: groups, parameters or moments that do not fit, or are not finite; a step that is not a count.
    """
    moments, wanted = (_moments(each) for each in (state, expected))
    groups, wanted_groups = (_groups(each) for each in (state, expected))
    if groups != wanted_groups or moments.keys() != wanted.keys():
        raise CheckpointError(f"the optimizer in {name} has other parameters than the network: start without --resume")
    for key in wanted:
        got, fresh = moments[key], wanted[key]
        if not isinstance(got, Mapping) or got.keys() != fresh.keys():
            raise CheckpointError(f"the optimizer in {name} has other moments of '{key}' than AdamW: it is damaged")
        for moment, tensor in fresh.items():
            _check_moment(got[moment], tensor, f"the {moment} of '{key}' in {name}", moment != "exp_avg")


def _check_moment(value: Any, expected: Tensor, name: str, is_positive: bool) -> None:
    if (got := _shape(value)) != _shape(expected):
        raise CheckpointError(f"{name} got {got}, expected {_shape(expected)}: it is damaged")
    fault = _fault(value, expected)
    if not fault and is_positive and value.numel() and value.min() < 0:
        fault = "is negative"
    if fault:
        raise CheckpointError(f"{name} {fault}: it is damaged")


def check_scaler(scaler: Mapping[str, Any], name: str) -> None:
    """Raises CheckpointError unless these are the numbers of a loss scaler, all finite and none negative."""
    for key in [*SCALER, *scaler]:
        value = scaler.get(key)
        if key not in SCALER or type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
            raise CheckpointError(f"the loss scaler in {name} has {key} = {value!r:.40}: it is damaged")


def _moments(state: Mapping[str, Any]) -> Mapping[str, Any]:
    moments = state.get("state")
    return moments if isinstance(moments, Mapping) else {}


def _groups(state: Mapping[str, Any]) -> list[Any]:
    groups = state.get("param_groups")
    groups = groups if isinstance(groups, list | tuple) else []
    return [group.get("params") if isinstance(group, Mapping) else None for group in groups]


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else "nothing"


def _fault(tensor: Tensor, expected: Tensor) -> str:
    """What is wrong with a tensor of the right shape, or nothing."""
    if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        return f"is {tensor.dtype}, expected plain real numbers"
    if expected.is_floating_point() and not tensor.is_floating_point():
        return f"holds {tensor.dtype}, expected {expected.dtype}"
    if tensor.is_floating_point() and tensor.element_size() < 2:
        return f"is {tensor.dtype}, expected 16 bits a number or more"
    return "" if _is_finite(tensor) else "holds NaN or infinity"


def _is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN, which both ends of a range show, or infinite. It takes no memory."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in tensor.aminmax())
