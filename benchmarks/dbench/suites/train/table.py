"""The speeds of training in the README."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result, ResultRow, number

SHARE = ", share of the matrix rate"
ALONE = "teacher none"


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each recipe and way to have its teacher. results: with names."""
    head = (
        "recipe",
        "images a step",
        "steps a second",
        "share of the matrix rate",
        "step to one without teacher",
        "on",
    )
    lines = [
        _line(row.name.removesuffix(SHARE), name, result)
        for name, result in results
        for row in result.rows
        if row.name.endswith(SHARE)
    ]
    text = "`dbench train`: a step of training, beside matrix products in turns with it; in brackets p10 to p90:"
    return f"{text}\n\n{record.table(head, lines, texts=(0, 5))}"


def _line(candidate: str, name: str, result: Result) -> list[str]:
    ratio = next((row for row in result.rows if row.name == f"step, {candidate} / {ALONE}"), None)
    return [
        f"`{name}`" + (f", {candidate}" if candidate.startswith("teacher") else ""),
        f"{result.settings['batch']}, {result.settings['precision']}",
        _spread(result.row(f"{candidate}, steps a second"), result),
        f"{record.shown(result.row(candidate + SHARE), result.machine)} %",
        record.UNKNOWN if ratio is None else f"{record.shown(ratio, result.machine)} times",
        record.where(result),
    ]


def _spread(row: ResultRow, result: Result) -> str:
    return f"{record.shown(row, result.machine)} ({number(row.p10)} to {number(row.p90)})"
