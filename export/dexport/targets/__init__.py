"""What a bundle can hold: one file each, and the file name is the target's name and its `dexport` command.

A file holds `export(part, folder) -> Artifact`: it writes the part's files into `folder`, and leaves parity empty.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from torch import nn

from drun.bundle.artifact import Tensor, Tolerance


@dataclass(frozen=True)
class Part:
    """A network of a bundle, ready for export."""

    stem: str  # of its files' names
    network: nn.Module  # deployable
    io: tuple[Tensor, ...]  # its inputs in the order of `forward`, then its output; batches are "N" in the shapes
    batch: tuple[int, int]  # smallest and largest N; equal for a static graph
    tolerance: Tolerance  # in float32

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.io[:-1]

    @property
    def output(self) -> Tensor:
        return self.io[-1]


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of a target."""
    return import_module(f"{__name__}.{name}")
