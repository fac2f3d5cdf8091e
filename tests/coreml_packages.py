"""Networks and functions, converted to Core ML packages on the spot, and opened by the reference executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from dexport.apple.conversion import convert
from dexport.apple.frontend import exported
from drun.mil.executor import Executor
from drun.mil.package import Package


class Function(nn.Module):
    """A function of one tensor as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def executor_of(
    network: nn.Module,
    inputs: Sequence[Tensor],
    folder: Path,
    precision: str = "fp16",
    system: int = 18,
    mode: str = "declared",
) -> Executor:
    """The package `a.mlpackage` of a network, whose inputs are x, t and whose output is out."""
    path = folder / "a.mlpackage"
    convert(exported(network, inputs), ["x", "t"][: len(inputs)], "out", precision, system, path)
    return Executor(Package(path), mode=mode)
