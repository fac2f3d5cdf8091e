"""The speeds in a report: a line for each target, with parity beside speed, then all rows."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result, number
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
#: the end of the name of the row about the memory that `drun` itself takes
ABOVE = "drun above weights and activations"


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
    return record.UNKNOWN if found is None else record.shown(found, result.machine)


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each result, about the candidate that has the headlines. results: with names."""
    head = (
        "network, images a call", "times as fast as eager PyTorch", "loop above bare calls", "start to first image",
        "memory above weights and activations", "processor",
    )  # fmt: skip
    lines = [
        [
            f"`{name}`, {result.settings['batch']}",
            *(_ending(result, end) for end in (", pairwise", ", loop overhead")),
            *(_ending(result, end) for end in (f"first image, {result.settings['steps']} steps", ABOVE)),
            record.where(result),
        ]
        for name, result in results
    ]
    text = (
        "`dbench latency`: the target that `drun` takes by default; in brackets p10 to p90, or the steps of an image:"
    )
    return f"{text}\n\n{record.table(head, lines, texts=(0, 5))}"


def _ending(result: Result, end: str) -> str:
    """The first row whose name ends so, with its spread or its steps."""
    row = next((row for row in result.rows if row.name.endswith(end)), None)
    if row is None:
        return record.UNKNOWN
    note = f" ({number(row.p10)} to {number(row.p90)})" if row.p10 is not None and row.unit in ("x", "%") else ""
    steps = f" ({result.settings['steps']} steps)" if row.unit == "s" else ""
    mark = f" {record.MARK}" if record.doubt(row, result.machine) else ""
    return f"{number(row.value)}{'' if row.unit == 'x' else f' {row.unit}'}{mark}{note}{steps}"
