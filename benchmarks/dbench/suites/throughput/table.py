"""The tables of throughput, for people."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.suites.throughput.names import RowNames

HEAD = (
    "who draws", "images a second", "times as fast as the papers' loop", "% of the matrix rate in bf16",
    "% above bare network calls", "relative L2",
)  # fmt: skip
ERROR = "Relative L2 is from the images of eager PyTorch in fp32, with the same noise."
OURS = "drun, "


def summary(result: Result) -> str:
    """Markdown: a table for each batch."""
    parts = [f"**{names.title}**\n\n{record.table(HEAD, _lines(result, names))}" for names in _batches(result)]
    return "\n\n".join([*parts, ERROR])


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results: of each batch the fastest of `drun` beside the papers' loop."""
    head = (
        "network, images, steps", "the fastest of drun", "images a second", "times as fast as the papers' loop",
        "the papers' loop at its fastest here", "% of the matrix rate in bf16", "on",
    )  # fmt: skip
    lines = [line for name, result in results for names in _batches(result) if (line := _digested(name, result, names))]
    text = "`dbench throughput`: whole batches from noise to images; in brackets p10 to p90:"
    return f"{text}\n\n{record.table(head, lines, texts=(0, 1, 6))}"


def _batches(result: Result) -> list[RowNames]:
    return [RowNames(batch, result.settings["steps"]) for batch in result.settings["batches"]]


def _lines(result: Result, names: RowNames) -> list[list[str]]:
    rows = _rows(result)
    columns = (names.speed, names.ratio, names.share, names.added, names.error)
    return [[way, *(_cell(rows.get(column(way)), result) for column in columns)] for way in _drew(result, names)]


def _digested(name: str, result: Result, names: RowNames) -> list[str] | None:
    """None of a batch that `drun` did not draw."""
    rows = _rows(result)
    right = [way for way in _drew(result, names) if not rows[names.error(way)].doubt]
    by_speed = sorted(right, key=lambda way: rows[names.speed(way)].value or 0.0, reverse=True)
    ours, theirs = (next((way for way in by_speed if way.startswith(OURS) is own), None) for own in (True, False))
    if ours is None or theirs is None:
        return None
    speed, ratio, share = (_cell(rows.get(named(ours)), result) for named in (names.speed, names.ratio, names.share))
    best = _cell(rows.get(names.ratio(theirs)), result) or "1"  # it is the papers' loop itself
    what = f"`{name}`, {names.batch}, {names.steps}"
    return [what, ours.removeprefix(OURS), speed, ratio, best, share, record.where(result)]


def _drew(result: Result, names: RowNames) -> list[str]:
    """The ways that drew a batch."""
    rows = _rows(result)
    return [way for way in result.settings["ways"] if names.speed(way) in rows]


def _rows(result: Result) -> dict[str, ResultRow]:
    return {row.name: row for row in result.rows}


def _cell(row: ResultRow | None, result: Result) -> str:
    if row is None:
        return ""
    spread = f" ({number(row.p10)} to {number(row.p90)})" if row.p10 is not None and row.unit in ("x", "1/s") else ""
    return f"{record.shown(row, result.machine)}{spread}"
