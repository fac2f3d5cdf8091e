"""The options of an export and their defaults, declared once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

#: The options that hold for the export of a bundle, too.
OF_GRAPHS = ("precision", "batch", "split", "unit", "ios", "allow_drift")


@dataclass(frozen=True)
class ExportOptions:
    """See `dexport TARGET --help`."""

    out: Path | None = None
    precision: str | None = None
    batch: str | None = None
    split: bool = False
    unit: str | None = None
    ios: int | None = None
    weights: str = "ema"
    settings: Sequence[str] = ()
    trajectory_steps: int | None = None
    vae: str = "auto"
    quick: bool = False
    force: bool = False
    allow_drift: bool = False

    def of_checkpoints(self) -> list[str]:
        """The given options that have no meaning for the export of a bundle, as they are typed."""
        given = [field.name for field in fields(self) if getattr(self, field.name) != getattr(DEFAULTS, field.name)]
        names = {"settings": "set"}
        return [f"--{names.get(name, name).replace('_', '-')}" for name in given if name not in OF_GRAPHS]


DEFAULTS = ExportOptions()
