"""The tables of published results in the README: each suite words its own."""

from __future__ import annotations

from pathlib import Path

from dbench import suites
from dbench.core import record
from dbench.core.record import Result
from drun.errors import ConfigError, DataError

BEGIN = "<!-- dbench readme writes the lines below from benchmarks/results: do not edit them -->"
END = "<!-- dbench readme writes the lines above -->"


def tables(folder: Path) -> str:
    """Markdown about all results below a folder, suite by suite.

    Raises:
        ConfigError: there are none. DataError: one cannot be read.
    """
    found = published(folder)
    if not found:
        raise ConfigError(f"no results below '{folder}': expected files that dbench wrote")
    parts = []
    for name in suites.names():
        of_suite = [(label, result) for label, result in found if result.suite == name]
        digest = getattr(suites.load(name), "digest", None)
        if digest is not None and of_suite:
            parts.append(digest(of_suite))
    if any(record.MARK in part for part in parts):
        parts.append(f"{record.LEGEND}.")
    return "\n\n".join(parts)


def published(folder: Path) -> list[tuple[str, Result]]:
    """The results below a folder, each with the name of the folder that it lies in."""
    return [(path.parent.name, record.read(path)) for path in sorted(folder.rglob("*.json"))]


def with_tables(document: str, markdown: str) -> str:
    """A document with other lines between its marks. Raises DataError unless it has both, once and in order."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in before + after:
        raise DataError(
            f"the document has no place for the tables, expected the lines '{BEGIN}' and '{END}', once each"
        )
    return f"{before}{BEGIN}\n\n{markdown}\n\n{END}{after}"
