"""What was tried, in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.suites.repa import plots, rows
from dbench.suites.repa.plan import RANDOM, REPA


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each comparison. results: with names."""
    head = (
        "network", "classes", "seeds", "distance in", "teacher", "alignment",
        "times fewer steps, at half of the budget", "at its end", "times less time, at half",
        "random teacher, at half", "a step, aligned / plain",
    )  # fmt: skip
    lines = [line for name, result in results for line in (_line(name, result), *_tries(name, result))]
    text = (
        "`dbench repa`: how many times fewer steps with REPA to the distance that the plain model has then; above 1 "
        "REPA saves; the median of the seeds, in brackets the least and the largest of several. Time leaves out the "
        "training of the teacher:"
    )
    return f"{text}\n\n{record.table(head, lines, texts=range(6))}"


def _line(name: str, result: Result) -> list[str]:
    kind, at = plots.kinds(result)[0], plots.half(result)
    return [
        *_steps(name, result, REPA, result.subject["alignment"]),
        _cell(result.row(rows.seconds_name(kind, REPA, at)), result),
        _cell(result.row(rows.steps_name(kind, RANDOM, at)), result),
        _cell(result.row(rows.STEP_COST), result),
    ]


def _tries(name: str, result: Result) -> list[list[str]]:
    """The lines of --try, in which no step is timed."""
    tries = result.subject.get("tries", {})
    return [[*_steps(name, result, arm, given), "", "", ""] for arm, given in tries.items()]


def _steps(name: str, result: Result, arm: str, alignment: Mapping[str, Any]) -> list[str]:
    """What was compared, and the steps that an arm saved."""
    kind, classes = plots.kinds(result)[0], int(result.subject["model"]["num_classes"])
    last = plots.read_curves(result, kind, arm)[0].steps[-1]
    return [
        f"`{name}`",
        str(classes or "none"),
        ", ".join(map(str, result.settings["seeds"])),
        str(result.row(rows.floor_name(kind)).details["name"]),
        str(result.subject["teacher"]["name"]),
        _words(alignment),
        *(_cell(result.row(rows.steps_name(kind, arm, step)), result) for step in (plots.half(result), last)),
    ]


def _words(given: Mapping[str, Any]) -> str:
    """Block, weight, projector, spatial norm and end."""
    words = [f"block {given['encoder_depth']}", f"weight {given.get('weight', 0.5):g}", _projector(given)]
    words += [given["similarity"]] if given.get("similarity", "cosine") != "cosine" else []
    words += [f"norm {given['spatial_norm']:g}"] if given.get("spatial_norm") else []
    return ", ".join([*words, f"{given['stop_after']:,} steps" if given.get("stop_after") else "to the end"])


def _projector(given: Mapping[str, Any]) -> str:
    kind = str(given.get("projector", "mlp"))
    return f"mlp of {given['projector_width']}" if kind == "mlp" and "projector_width" in given else kind


def _cell(row: ResultRow, result: Result) -> str:
    shown = record.shown(row, result.machine)
    found = [float(one["ratio"]) for one in row.details.get("per_seed", ())]
    if len(found) == 1:
        return shown
    low, high = (min(found), max(found)) if found else (row.p10, row.p90)
    return f"{shown} ({number(low)} to {number(high)})"
