"""A slice of a campaign, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from drun.errors import door
from drun.files import write_json
from drun.foreign import read_json
from drun.typed import typed

#: What became of a slice; one is left out where this machine, or a slice that it needs, lacks something.
STATUSES = DONE, FAILED, TOO_LONG, LEFT_OUT = "done", "failed", "too long", "left out"


@dataclass(frozen=True)
class Slice:
    """One command, which ends within minutes."""

    name: str
    command: tuple[str, ...]  # a module of this project and its arguments, for python -m
    limit_s: int
    needs: tuple[str, ...] = ()  # names of earlier slices whose files it reads
    why_not: str | None = None  # why this machine cannot run it

    @property
    def shown(self) -> str:
        """The command as people type it."""
        return " ".join(self.command)


@dataclass(frozen=True)
class Outcome:
    """What became of a slice."""

    command: str
    status: str  # one of STATUSES
    seconds: float
    reason: str = ""  # of anything but success


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Those of earlier runs, by the names of the slices; none if there was no run.

    Raises:
        DataError: the file is not what `write_outcomes` wrote.
    """
    if not path.exists():
        return {}
    with door(f"'{path}' does not say what was measured already", advice="remove it to begin again"):
        return {name: typed(Outcome, fields, name) for name, fields in read_json(path).items()}


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    write_json(path, {name: asdict(outcome) for name, outcome in outcomes.items()})
