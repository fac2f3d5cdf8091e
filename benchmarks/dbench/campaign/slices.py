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
    command: tuple[str, ...]  # a command of this project and its arguments
    limit_s: int
    needs: tuple[str, ...] = ()  # names of earlier slices without whose files it cannot run
    uses: tuple[str, ...] = ()  # names of earlier slices whose files it takes if they are there
    on_processor: bool = False  # whether it is kept off the GPU, which it does not need
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
    ended: float  # seconds since 1970
    reason: str = ""  # of anything but success


def is_done(one: Slice, outcomes: Mapping[str, Outcome]) -> bool:
    """Whether a slice has a result of the same command, and of the files that are there now."""
    own = outcomes.get(one.name)
    if own is None or (own.status, own.command) != (DONE, one.shown):
        return False
    sources = [outcomes[name] for name in (*one.needs, *one.uses) if name in outcomes]
    return all(source.ended <= own.ended for source in sources if source.status == DONE)


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
