"""What a measurement leaves: rows with units and the conditions they hold under, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dbench.core.machine import Machine
from dbench.core.timing import Spread
from drun.bundle.reading import Bundle
from drun.errors import UserError, door
from drun.files import atomic, write_json
from drun.foreign import read_json
from drun.typed import typed

SCHEMA_VERSION = 1
UNKNOWN = "–"


@dataclass(frozen=True)
class Row:
    """One number. None is unknown."""

    suite: str
    name: str
    value: float | None              # a median where there are percentiles
    unit: str
    p10: float | None = None
    p90: float | None = None
    headline: str = ""               # what a report calls it, if it is one of the key numbers
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The rows of one suite."""

    rows: tuple[Row, ...]
    subject: dict[str, Any]          # what was measured
    settings: dict[str, Any]         # how
    machine: Machine
    command: str

    @property
    def suite(self) -> str:
        return self.rows[0].suite

    def row(self, name: str) -> Row:
        """Raises UserError if there is none of this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UserError(f"the results of '{self.suite}' lack '{name}': run 'dbench {self.suite}' again")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; numbers that are not finite become None."""
        plain: dict[str, Any] = _plain({"schema_version": SCHEMA_VERSION} | asdict(self))
        return plain


def spread_row(suite: str, name: str, values: Spread, unit: str, **fields: Any) -> Row:
    """A row of a median and its percentiles."""
    return Row(suite, name, values.median, unit, values.p10, values.p90, **fields)


def identity(bundle: Bundle) -> dict[str, Any]:
    """What a bundle holds, by content."""
    manifest = bundle.manifest
    return {
        "bundle": bundle.name,
        "model": manifest.model.name,
        "parameters": manifest.model.parameters,
        "checkpoint_sha256": manifest.model.checkpoint["sha256"],
        "artifacts": {
            f"{artifact.format} {artifact.precision}": [entry.sha256 for entry in artifact.files]
            for artifact in manifest.artifacts
        },
    }


def shown_command(arguments: Sequence[str]) -> str:
    """A command line as others may see it: of absolute paths only the last name."""
    shown = [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]
    return " ".join([Path(shown[0]).name, *shown[1:]]) if shown else ""


def this_command() -> str:
    return shown_command(sys.argv)


def write(result: Result, folder: Path) -> tuple[Path, Path]:
    """Write `<suite>.json` and `<suite>.md`; returns their paths."""
    as_json, as_markdown = folder / f"{result.suite}.json", folder / f"{result.suite}.md"
    write_json(as_json, result.to_dict())
    with atomic(as_markdown) as temporary:
        temporary.write_text(to_markdown(result), encoding="utf-8")
    return as_json, as_markdown


def read(path: Path) -> Result:
    """Read what `write` wrote.

    Raises:
        DataError: it is not JSON, or not such a result.
    """
    with door(f"'{path}' is not a result of this dbench", advice="measure again"):
        fields = read_json(path)
        if fields.pop("schema_version") != SCHEMA_VERSION or not fields["rows"]:
            raise ValueError("it has another schema version, or no rows")
        result: Result = typed(Result, fields, "result")
        return result


def to_markdown(result: Result) -> str:
    """A table of the rows, and the conditions below it."""
    head = "| what | value | p10 | p90 | unit |\n|---|--:|--:|--:|---|"
    cells = [[row.name, number(row.value), number(row.p10), number(row.p90), row.unit] for row in result.rows]
    rows = [f"| {' | '.join(texts)} |" for texts in cells]
    facts = [f"- {name}: {value}" for name, value in conditions(result.machine).items()]
    return "\n".join([f"# {result.suite}\n", head, *rows, "", *facts, f"- command: `{result.command}`", ""])


def conditions(machine: Machine) -> dict[str, str]:
    """Label -> text, for people."""
    labelled = {"processor": f"{machine.processor}, {machine.num_cores} cores"}
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


def number(value: float | None) -> str:
    """Three significant digits, or all digits before the point."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value and abs(value) >= 1e-3 else f"{value:.3g}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def to_line(result: Result) -> str:
    """One compact JSON document, for tools that read the last line of stdout."""
    return json.dumps(result.to_dict(), separators=(",", ":"), allow_nan=False)
