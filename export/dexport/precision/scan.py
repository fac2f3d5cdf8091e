"""Looks for numbers that fp16 cannot hold, before a graph in fp16 is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dexport.precision.layers import Low
from drun.errors import ExportError

#: The largest number of fp16, 65,504. Smaller numbers than its smallest normal one are rounded to its steps below it,
#: 6e-8, which no sum of usual size notices.
LARGEST = torch.finfo(torch.float16).max
ADVICE = "use --precision bf16, whose range is that of float32"


def check_weights(network: nn.Module, low: nn.Module) -> None:
    """Raises ExportError if a weight of the float32 network became infinite in the fp16 one."""
    for (name, original), narrow in zip(network.named_parameters(), low.parameters(), strict=True):
        if not torch.isfinite(narrow).all():
            value = float(original.abs().max())
            raise ExportError(f"the weight '{name}' got {value:,.0f}, fp16 holds at most {LARGEST:,.0f}: {ADVICE}")


@torch.no_grad()
def check_calls(network: nn.Module, calls: Sequence[tuple[Tensor, ...]]) -> None:
    """Run a network in bf16 on inputs, of which the second, where there is one, is the time.

    Raises:
        ExportError: a result in bf16 is one that fp16 cannot hold; the message names the module, the value and the
        time.
    """
    with _watched(network) as results:
        for call in calls:
            results.largest = 0.0
            network(*call)
            if not results.largest <= LARGEST:
                moment = f" at t = {float(call[1].flatten()[0]):g}" if len(call) > 1 else ""
                raise ExportError(
                    f"'{results.where}' computes {results.largest:,.0f}{moment}, fp16 holds at most {LARGEST:,.0f}: "
                    f"{ADVICE}"
                )


class _Results(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The largest |result| in bf16 of all operators, and the module that computed it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules: list[str] = []
        self.largest, self.where = 0.0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.bfloat16:
            value = float(result.abs().max())
            if value > self.largest or (math.isnan(value) and not math.isnan(self.largest)):  # the first NaN stays
                self.largest, self.where = value, self.modules[-1]
        return result


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Results]:
    results = _Results()
    hooks = []
    # By the names that the trained network has: without the layers in the modules that cast.
    within = {module.layer for module in network.modules() if isinstance(module, Low)}
    for name, module in network.named_modules():
        if module in within:
            continue
        hooks.append(module.register_forward_pre_hook(_enter(results, name)))
        hooks.append(module.register_forward_hook(_leave(results)))
    try:
        with results:
            yield results
    finally:
        for hook in hooks:
            hook.remove()


def _leave(results: _Results) -> Callable[..., None]:
    def leave(*_: Any) -> None:  # a hook that returns something replaces the result
        results.modules.pop()

    return leave


def _enter(results: _Results, name: str) -> Callable[..., None]:
    return lambda *_: results.modules.append(name)
