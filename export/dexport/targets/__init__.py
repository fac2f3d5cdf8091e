"""The targets: one file each, and the file name is the target's name and its `dexport` command.

The first line of a file's docstring is the command's help. The file holds

- `PROVERS`: the precisions of the graphs that it makes, the default first -> the backend that proves them;
- `UNITS`, where it writes graphs for units of a device, the default first; those in `SPLIT_UNITS` are two graphs;
- `SYSTEMS`, where they are for an oldest system: its number -> the usual batch, the default first; `DECODER_BATCH`; and
  `check(precision, system, batch)`, which raises ConfigError for what it does not make for a system;
- `SPLITS`, where it also makes two graphs, by one call for (t[, y]) -> c and one for (x, c) -> out: the precisions;
- `export(part, folder) -> Artifact`, if it makes them of a network in PyTorch; or `SOURCE` and
  `derive(source, folder) -> Artifact`, if it makes them of the bundle's artifact of the format `SOURCE`, in fp32 unless
  `SOURCE_PRECISIONS` says of which precision it makes which.

Both write files into `folder`, name them relative to it, and leave parity empty; they are called once for the denoiser
and once for the decoder, where there is one. The artifact's format is the target's name. No file imports torch at
module level: a derived target runs where there is none.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
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


#: Smallest and largest batch of a graph that takes any.
DEFAULT_BATCH = (1, 64)


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
    unit: str = ""  # of a device that the graph is written for, one of the target's UNITS; of other graphs ""
    system: int = 0  # the oldest system that reads it, one of the target's SYSTEMS
    metadata: Mapping[str, str] = field(default_factory=dict)  # what the file may say of the model

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


def source_precision(name: str, precision: str) -> str:
    """The precision of the artifact that a derived one is made of: weights that were rounded stay rounded."""
    own: dict[str, str] = getattr(load(name), "SOURCE_PRECISIONS", {})
    return own.get(precision, "fp32")


def precisions(name: str) -> list[str]:
    """The precisions of the graphs that a target makes, the default first."""
    return [*load(name).PROVERS]


def prover(name: str, precision: str) -> str:
    """The backend that proves a target's graphs of a precision."""
    return str(load(name).PROVERS[precision])


def units(name: str) -> list[str]:
    """The units of a device that a target writes graphs for, the default first."""
    return [*getattr(load(name), "UNITS", ())]


def systems(name: str) -> list[int]:
    """The oldest systems that a target's artifacts may be for, the default first."""
    return [*getattr(load(name), "SYSTEMS", ())]


def variants(name: str, precision: str) -> list[str]:
    """The variants that a target makes in a precision: its units, or "", one graph, and split."""
    own = units(name) or [""]
    return [*own, SPLIT] if precision in getattr(load(name), "SPLITS", ()) else own


def chosen_system(name: str, system: int | None) -> int:
    """The oldest system that is to read the artifact; 0 where a target has no such choice.

    Raises:
        ConfigError: the target makes nothing for it.
    """
    known = systems(name)
    if system is None:
        return known[0] if known else 0
    if system not in known:
        expected = f"expected one of {', '.join(map(str, known))}" if known else f"dexport {name} has no such choice"
        raise ConfigError(f"--ios got {system}, {expected}")
    return system


def usual_batch(name: str, system: int) -> tuple[int, int]:
    """Smallest and largest batch of a denoiser, where nothing else is asked for."""
    usual: tuple[int, int] = getattr(load(name), "SYSTEMS", {}).get(system, DEFAULT_BATCH)
    return usual


def check(name: str, precision: str, system: int, batch: tuple[int, int] | None) -> None:
    """Raises ConfigError if a target makes no such artifact for a system."""
    if own := getattr(load(name), "check", None):
        own(precision, system, batch)


def chosen_variant(name: str, precision: str, is_split: bool, unit: str | None = None) -> str:
    """The variant of the artifact to make. Raises ConfigError if the target does not make it."""
    known = units(name)
    if unit is not None and unit not in known:
        expected = f"expected one of {', '.join(known)}" if known else f"dexport {name} has no units: leave it out"
        raise ConfigError(f"--unit got '{unit}', {expected}")
    if known and not is_split:
        return unit or known[0]
    if is_split and (two := getattr(load(name), "SPLIT_UNITS", ())):
        raise ConfigError(f"--split: dexport {name} makes two graphs for some units: type --unit {' or '.join(two)}")
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
