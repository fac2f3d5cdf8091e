"""What was tried, in the README."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.suites.repa import plots, rows
from dbench.suites.repa.plan import RANDOM, REPA


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each comparison. results: with names."""
    head = (
        "network, seeds", "distance in", "teacher", "alignment", "steps saved at half of the budget", "at its end",
        "in seconds at half", "random teacher at half", "a step, aligned / plain",
    )  # fmt: skip
    lines = [_line(name, result) for name, result in results]
    text = (
        "`dbench repa`: how many times fewer steps with REPA to the distance that the plain model has then; above 1 "
        "REPA saves; the median of the seeds, in brackets p10 to p90:"
    )
    return f"{text}\n\n{record.table(head, lines, texts=(0, 1, 2, 3))}"


def _line(name: str, result: Result) -> list[str]:
    kind, at = plots.kinds(result)[0], plots.half(result)
    last = plots.read_curves(result, kind, REPA)[0].steps[-1]
    seeds = result.settings["seeds"]
    return [
        f"`{name}`, {len(seeds)}",
        str(result.row(rows.floor_name(kind)).details["name"]),
        str(result.subject["teacher"]["name"]),
        _alignment(result),
        *(_cell(result.row(rows.steps_name(kind, REPA, step)), result) for step in (at, last)),
        _cell(result.row(rows.seconds_name(kind, REPA, at)), result),
        _cell(result.row(rows.steps_name(kind, RANDOM, at)), result),
        _cell(result.row(rows.STEP_COST), result),
    ]


def _alignment(result: Result) -> str:
    """Block, weight, projector, spatial norm and end."""
    given = result.subject["alignment"]
    words = [f"block {given['encoder_depth']}", f"weight {given.get('weight', 0.5):g}", given.get("projector", "mlp")]
    words += [f"norm {given['spatial_norm']:g}"] if given.get("spatial_norm") else []
    return ", ".join([*words, f"{given['stop_after']:,} steps" if given.get("stop_after") else "to the end"])


def _cell(row: ResultRow, result: Result) -> str:
    return f"{record.shown(row, result.machine)} ({number(row.p10)} to {number(row.p90)})"
