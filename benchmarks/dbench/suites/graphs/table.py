"""The candidates in a report: a line for each, the errors beside the speeds."""

from __future__ import annotations

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.html import page
from dbench.suites.graphs.rows import CALL, DEFAULT, ERROR, FILES, OPENING, SPEED_UP, row_name

CAPTION = (
    "Medians of a call in ONNX Runtime, and how many times as fast as today's default, with the 95 % interval; "
    f"{record.MARK}: it reaches 1. The error is from eager PyTorch, the worst of all calls."
)


def compared(result: Result) -> str:
    """HTML of a result of `dbench graphs`."""
    return page.section(
        "ONNX graphs",
        page.table(_head(result), _lines(result), CAPTION),
        page.paragraph(verdict(result)),
        page.facts(_meanings(result)),
        *map(page.paragraph, _left_out(result)),
        page.results(result, f"Of {result.subject['name']}"),
    )


def markdown(result: Result) -> str:
    """The same in Markdown, without the rows."""
    meanings = [f"`{name}`: {meaning}" for name, meaning in _meanings(result).items()]
    facts = "\n".join(f"- {fact}" for fact in (*meanings, *_left_out(result)))
    return "\n\n".join([record.table(_head(result), _lines(result)), CAPTION, verdict(result), facts])


def _head(result: Result) -> list[str]:
    speeds = [f"{what}, batch {batch}" for batch in _batches(result) for what in ("ms", "x (95 %)")]
    return ["candidate", *speeds, "relative L2", "dB", "opening s", "files MB"]


def _lines(result: Result) -> list[list[str]]:
    batches = _batches(result)
    return [[name, *_speeds(result, name, batches), *_facts(result, name, batches)] for name in _names(result)]


def _names(result: Result) -> list[str]:
    return [DEFAULT, *result.settings["candidates"]]


def _batches(result: Result) -> list[int]:
    return [int(batch) for batch in result.settings["batches"]]


def _meanings(result: Result) -> dict[str, str]:
    """What each candidate is."""
    rows = {name: _row(result, name, _batches(result)[0], CALL) for name in _names(result)}
    return {name: str(row.details["is"]) for name, row in rows.items()}


def _left_out(result: Result) -> list[str]:
    return [f"Left out, {name}: {why}" for name, why in result.settings["left_out"].items()]


def verdict(result: Result) -> str:
    """The candidates that are within the float32 tolerance and beyond the noise at every batch size, in words."""
    batches = _batches(result)
    better = [name for name in result.settings["candidates"] if _is_better(result, name, batches)]
    if not better:
        return "No candidate within the float32 tolerance is faster than the default beyond the noise at every batch."
    listed = ", ".join(sorted(better, key=lambda name: -_lows(result, name, batches)[0]))
    return f"Within the float32 tolerance and faster than the default beyond the noise at every batch: {listed}."


def _is_better(result: Result, name: str, batches: list[int]) -> bool:
    passed = [_row(result, name, batch, ERROR).details["passed"] for batch in batches]
    return all(passed) and all(low > 1 for low in _lows(result, name, batches))


def _lows(result: Result, name: str, batches: list[int]) -> list[float]:
    """The lower ends of the intervals, the lowest first."""
    return sorted(_interval(_row(result, name, batch, SPEED_UP))[0] for batch in batches)


def _row(result: Result, name: str, batch: int, what: str) -> ResultRow:
    return result.row(row_name(name, batch, what))


def _interval(row: ResultRow) -> tuple[float, float]:
    low, high = row.details["interval_95"]
    return low, high


def _speeds(result: Result, name: str, batches: list[int]) -> list[str]:
    cells = []
    for batch in batches:
        ratio = _row(result, name, batch, SPEED_UP)
        mark = f" {record.MARK}" if record.doubt(ratio, result.machine) else ""
        ends = " to ".join(f"{end:.3f}" for end in _interval(ratio))
        cells += [number(_row(result, name, batch, CALL).value), f"{ratio.value:.3f} ({ends}){mark}"]
    return cells


def _facts(result: Result, name: str, batches: list[int]) -> list[str]:
    """The worst error, and the size and the opening time at the first batch size."""
    errors = [_row(result, name, batch, ERROR) for batch in batches]
    worst = max(errors, key=lambda row: row.value if row.value is not None else float("inf"))
    rest = [number(_row(result, name, batches[0], what).value) for what in (OPENING, FILES)]
    return [number(worst.value), number(worst.details["psnr_db"]), *rest]
