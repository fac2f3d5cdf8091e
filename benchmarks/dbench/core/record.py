"""The result of a measurement: rows with units, and their conditions, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dbench.core import subject
from dbench.core.machine import Machine
from dbench.core.timing import Spread
from drun.errors import DataError, UserError, door
from drun.files import atomic, write_json
from drun.foreign import read_json
from drun.plain import plain
from drun.typed import typed

SCHEMA_VERSION = 2
UNKNOWN = "–"
#: A spread, p10 to p90, wider than this share of its median leaves open what the median is.
WIDE_SPREAD = 0.5
#: Units of what other work on a machine disturbs, unlike sizes, counts and distances. A suite that times nothing states
#: no threads, so that its machine was never shared.
TIMED_UNITS = ("ms", "s", "1/s", "x", "%", "TFLOP/s")
#: The mark of every figure that `doubt` speaks against; `legend` explains it.
MARK = "†"
LEGEND = (
    f"{MARK} says little: measured beside too much other work, or p10 to p90 crosses zero or spans more than half of "
    "the median"
)


@dataclass(frozen=True)
class ResultRow:
    """One measured number; the value is None if it is unknown."""

    suite: str
    name: str
    value: bool | float | None  # a median where there are percentiles; True and False are yes and no
    unit: str
    p10: float | None = None
    p90: float | None = None
    headline: str = ""  # what a report calls it, if it is one of the key numbers
    details: dict[str, Any] = field(default_factory=dict)
    doubt: str | None = None  # why it says little, or "", if the suite knows; None: its spread decides


@dataclass(frozen=True)
class Result:
    """The rows of one suite."""

    rows: tuple[ResultRow, ...]
    subject: dict[str, Any]  # what was measured: its name, and the hashes of dbench.core.subject that it has
    settings: dict[str, Any]  # how
    machine: Machine
    command: str

    @property
    def suite(self) -> str:
        return self.rows[0].suite

    @property
    def file_name(self) -> str:
        """Name of the result's files without suffix, unique for a suite, a subject and settings."""
        return f"{self.suite}-{subject.file_name(plain(self.subject), plain(self.settings))}"

    def row(self, name: str) -> ResultRow:
        """Raises UserError if there is none of this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UserError(f"the result '{self.file_name}' lacks '{name}': measure it again or leave it out")

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values; numbers that are not finite become None."""
        values: dict[str, Any] = plain({"schema_version": SCHEMA_VERSION} | asdict(self))
        return values


def spread_row(suite: str, name: str, values: Spread, unit: str, **fields: Any) -> ResultRow:
    """A row of a median and its percentiles."""
    return ResultRow(suite, name, values.median, unit, values.p10, values.p90, **fields)


def shown_command(arguments: Sequence[str]) -> str:
    """A command line for publication: absolute paths, and those that leave this folder, are cut to their last names."""
    shown = [_shown_word(argument) for argument in arguments]
    if not shown:
        return ""
    program = Path(shown[0])  # python -m runs the package's __main__.py
    return " ".join([Path(arguments[0]).parent.name if program.stem == "__main__" else program.name, *shown[1:]])


def _shown_word(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    is_elsewhere = Path(value).is_absolute() or ".." in Path(value).parts
    return f"{option}{equals}{Path(value).name if is_elsewhere else value}"


def this_command() -> str:
    return shown_command(sys.argv)


def write(result: Result, folder: Path, summary: str | None = None) -> tuple[Path, Path]:
    """Write `<suite>-<subject>.json` and `.md`; returns their paths. summary: see `to_markdown`."""
    as_json, as_markdown = (folder / f"{result.file_name}.{suffix}" for suffix in ("json", "md"))
    write_json(as_json, result.to_dict())
    with atomic(as_markdown) as temporary:
        temporary.write_text(to_markdown(result, summary), encoding="utf-8")
    return as_json, as_markdown


def read(path: Path) -> Result:
    """Read what `write` wrote.

    Raises:
        DataError: it is not JSON, not such a result, or of another schema.
    """
    with door(f"'{path}' is not a result of this dbench", advice="measure again"):
        fields = read_json(path)
        if type(version := fields.pop("schema_version")) is not int or version != SCHEMA_VERSION:
            raise DataError(
                f"'{path}' holds results of another schema: got version {version!r:.40}, expected {SCHEMA_VERSION}; "
                "measure again"
            )
        if not fields["rows"]:
            raise ValueError("it has no rows")
        result: Result = typed(Result, fields, "result")
        if not result.subject.get("name"):
            raise ValueError("its subject has no name")
        return result


# ---- for people -----------------------------------------------------------------------------------------


def to_markdown(result: Result, summary: str | None = None) -> str:
    """A table of the rows, and the conditions below it.

    Args:
        summary: Markdown in the place of the rows, where they are too many to be read.
    """
    if summary is None:
        lines = [cells(row, result.machine) for row in result.rows]
        summary = table(("what", "value", "p10", "p90", "unit"), lines, texts=(0, 4))
    notes = [f"{text}\n" for text in (legend(result),) if text]
    facts = [f"- {name}: {value}" for name, value in conditions(result.machine).items()]
    return "\n".join([f"# {result.suite}\n", summary, "", *notes, *facts, f"- command: `{result.command}`", ""])


def table(head: Sequence[str], lines: Sequence[Sequence[str]], texts: Collection[int] = (0,)) -> str:
    """A table in Markdown. texts: the columns that hold no numbers."""
    rule = "|".join("---" if column in texts else "--:" for column in range(len(head)))
    rows = (f"| {' | '.join(cells)} |" for cells in (head, *lines))
    first, *others = rows
    return "\n".join([first, f"|{rule}|", *others])


def cells(row: ResultRow, machine: Machine) -> list[str]:
    """Name, value, p10, p90 and unit, empty where there is none; a value that says little is marked."""
    spread = ["" if end is None else number(end) for end in (row.p10, row.p90)]
    return [row.name, shown(row, machine), *spread, row.unit]


def shown(row: ResultRow, machine: Machine) -> str:
    """The value of a row, with the mark if it says little."""
    return number(row.value) + (f" {MARK}" if doubt(row, machine) else "")


def doubt(row: ResultRow, machine: Machine) -> str:
    """Why a figure says little, in words; empty if it has no doubt."""
    reasons = []
    if machine.was_shared and row.unit in TIMED_UNITS:
        reasons.append("measured beside too much other work")
    if row.doubt is not None:
        reasons += filter(None, [row.doubt])
    elif row.value is not None and row.p10 is not None and row.p90 is not None:
        if row.p10 < 0 < row.p90:
            reasons.append("its spread crosses zero")
        elif row.p90 - row.p10 > WIDE_SPREAD * abs(row.value):
            reasons.append("its spread is wider than half of it")
    return ", ".join(reasons)


def legend(result: Result) -> str:
    """The meaning of the mark; empty if no figure of a result has it."""
    own = dict.fromkeys(row.doubt for row in result.rows if row.doubt)
    is_marked = any(doubt(row, result.machine) for row in result.rows)
    return "; or ".join([LEGEND, *own]) if is_marked else ""


def conditions(machine: Machine) -> dict[str, str]:
    """Label -> text, for people."""
    labelled = {"processor": f"{machine.processor}, {machine.num_cores} cores"}
    if machine.gpu is not None:
        labelled["GPU"] = machine.gpu
    if machine.num_threads is not None:
        labelled["threads"] = str(machine.num_threads)
    if machine.other_processors is not None:
        warning = " - too much: measure again on a quiet machine" if machine.was_shared else ""
        labelled["other work"] = f"{machine.other_processors:.1f} of {machine.num_processors} processors{warning}"
    memory = UNKNOWN if machine.memory_bytes is None else f"{machine.memory_bytes / 1e9:.1f} GB"
    return labelled | {
        "memory": memory,
        "system": machine.os,
        "versions": ", ".join(f"{name} {found or 'not installed'}" for name, found in machine.versions.items()),
        "commit": machine.commit or "unknown",
    }


def where(result: Result) -> str:
    """The processor and its cores, or the device of another kind, in a few words."""
    device, machine = result.settings.get("device"), result.machine
    if device not in (None, "cpu"):
        return str(result.settings.get("runs_on", device))
    count = machine.num_threads or machine.num_cores
    return f"{machine.processor}, {count} {'core' if count == 1 else 'cores'}"


def number(value: bool | float | None) -> str:
    """Three significant digits, or all digits before the point; yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value and abs(value) >= 1e-3 else f"{value:.3g}"


def to_line(result: Result) -> str:
    """One compact JSON document, for tools that read the last line of stdout."""
    return json.dumps(result.to_dict(), separators=(",", ":"), allow_nan=False)
