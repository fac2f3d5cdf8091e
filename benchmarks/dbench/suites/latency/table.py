"""The speeds in a report: a line for each target, with parity beside speed, then all rows."""

from __future__ import annotations

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.html import page

#: head of a column -> the end of the row's name, after the target's name
COLUMNS = {
    "call ms": "call",
    "loop ms": "loop of {steps} steps",
    "loop overhead %": "loop overhead",
    "relative L2": "worst relative L2 of the golden calls",
    "allowed": "allowed relative L2",
    "cold start s": "cold start to the first image, {steps} steps",
    "weights and activations MB": "weights and activations (backend alone - runtime imported)",
    "weight files MB": "weight files",
}


def speeds(result: Result) -> str:
    """HTML of a result of `dbench latency`."""
    names = result.settings.get("targets") or ()
    settings = page.listed(result.settings)
    lines = [[name, *(_cell(result, f"{name}, {what}") for what in COLUMNS.values())] for name in names]
    caption = "Medians; relative L2 is from eager PyTorch, the worst of the golden calls."
    return page.section(
        "Latency",
        *([page.table(("target", *COLUMNS), lines, caption)] if lines else []),
        page.results(result, f"Of {result.subject['name']}, measured with {settings}"),
    )


def _cell(result: Result, name: str) -> str:
    wanted = name.format(steps=result.settings.get("steps"))
    found = next((row for row in result.rows if row.name == wanted), None)
    return record.UNKNOWN if found is None else _shown(found, result)


def _shown(row: ResultRow, result: Result) -> str:
    mark = f" {record.MARK}" if record.doubt(row, result.machine) else ""
    return number(row.value) + mark
