"""The targets: one file each, and the file name is the target's name and its `dexport` command.

The first line of a file's docstring is the command's help. The file holds

- `PROVERS`: the precisions of the graphs that it makes, the default first -> the backend that proves them;
- `SPLITS`, where it also makes two graphs, by one call for (t[, y]) -> c and one for (x, c) -> out: the precisions;
- `export(part, folder) -> Artifact`, if it makes them of a network in PyTorch; or `SOURCE` and
  `derive(source, folder) -> Artifact`, if it makes them of the bundle's artifact of the format `SOURCE`.

Both write files into `folder`, name them relative to it, and leave parity empty; they are called once for the denoiser
and once for the decoder, where there is one. The artifact's format is the target's name. No file imports torch at
module level: a derived target runs where there is none.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from drun.bundle.artifact import SPLIT, Artifact, Tensor, Tolerance
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Part:
    """A network of a bundle, ready for export."""

    stem: str  # the stem of its files' names
    network: nn.Module  # the trained network, in float32 and eval mode
    deployable: nn.Module  # the same function in operators that every runtime reads
    precision: str  # of the graph to make
    io: tuple[Tensor, ...]  # its inputs in the order of `forward`, then its output; batches are "N" in the shapes
    batch: tuple[int, int]  # smallest and largest N; equal for a static graph
    tolerance: Tolerance  # in the arithmetic of the precision

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.io[:-1]

    @property
    def output(self) -> Tensor:
        return self.io[-1]


@dataclass(frozen=True)
class Source:
    """An artifact of a bundle, from which another one is made."""

    stem: str  # the stem of the new files' names
    path: Path  # the artifact's file, or its folder; every sha256 was recomputed
    artifact: Artifact
    precision: str  # of the graph to make
    io: tuple[Tensor, ...]  # see Part
    batch: tuple[int, int]  # smallest and largest N; equal for a static graph
    tolerance: Tolerance  # in the arithmetic of the precision
    bundle: Bundle  # the bundle of the artifact, whose networks can be run
    report: Report


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of a target."""
    return import_module(f"{__name__}.{name}")


def summary(name: str) -> str:
    """The first line of a target's docstring."""
    return (load(name).__doc__ or name).partition("\n")[0]


def source_of(name: str) -> str | None:
    """The format that a target makes its artifacts of; None if it needs the network."""
    return getattr(load(name), "SOURCE", None)


def precisions(name: str) -> list[str]:
    """The precisions of the graphs that a target makes, the default first."""
    return [*load(name).PROVERS]


def prover(name: str, precision: str) -> str:
    """The backend that proves a target's graphs of a precision."""
    return str(load(name).PROVERS[precision])


def variants(name: str, precision: str) -> list[str]:
    """The variants that a target makes in a precision; "" is one graph."""
    return ["", SPLIT] if precision in getattr(load(name), "SPLITS", ()) else [""]


def chosen_variant(name: str, precision: str, is_split: bool) -> str:
    """The variant of the artifact to make. Raises ConfigError if the target does not make it."""
    if is_split and SPLIT not in variants(name, precision):
        able = [f"dexport {other}" for other in names() if SPLIT in variants(other, precision)]
        advice = " or ".join(["leave it out", *(f"type {command}" for command in able)])
        raise ConfigError(f"--split: dexport {name} makes one graph only in {precision}: {advice}")
    return SPLIT if is_split else ""


def chosen_precision(name: str, precision: str | None) -> str:
    """The precision of the graph to make; None: the target's default.

    Raises:
        ConfigError: the target does not make it; the message says which ones do.
    """
    known = precisions(name)
    if precision is None:
        return known[0]
    if precision not in known:
        able = [f"dexport {other}" for other in names() if precision in precisions(other)]
        advice = f"type {' or '.join(able)}" if able else f"no target here makes it; see drun --precision {precision}"
        raise ConfigError(f"--precision got '{precision}', dexport {name} makes {', '.join(known)}: {advice}")
    return precision
