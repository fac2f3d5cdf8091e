"""The tables of a comparison, for people: in Markdown, in a report and in the README."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import record
from dbench.core.record import Result, ResultRow, number
from dbench.html import page
from dbench.suites.peers.names import call_name, parity_name, ratio_name, share_name, split_name
from dexport.quantisation.states import DATA_END, NOISE_END, NOISE_END_OF_NOISE

COLUMNS = (
    "who", "ms a call (95 %)", "times as fast as the best peer (95 %)", "GFLOP/s", "% of the matrix rate", "dB",
    "relative L2", "ready after s",
)  # fmt: skip
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
#: Of all that is said of parity and of ratios.
PARITY = "dB and relative L2 are from eager PyTorch in fp32, of the worst golden call."
RATIO = "A ratio is the median of the ratios within each round, not that of two medians."
READY = (
    "Ready: compiled for this batch; NNCF's default int8 is calibrated at the first batch, ours was in its export, and "
    "a small graph of ours may come compiled from the user's cache."
)
SPLIT = "A call of a split graph is timed without its conditioning graph, which a run computes once for all its steps."
INT8 = (
    "An int8 call is timed between the ends of time, which a run computes in fp32: "
    f"{100 * (NOISE_END_OF_NOISE + DATA_END):.0f} % of the steps where a network predicts noise, "
    f"{100 * NOISE_END:.0f} % otherwise."
)
RANDOM = "The weights are random weights: speed does not depend on them, the loss of bf16 and int8 does."


def summary(result: Result) -> str:
    """Markdown: a table for each batch and precision, the images end to end, cold starts, and who was left out."""
    parts = [f"**{title}**\n\n{record.table(COLUMNS, lines)}" for title, lines in _tables(result)]
    others = _others(result)
    others += [f"{row.name}: {row.details['reason']}" for row in result.rows if "reason" in row.details]
    return "\n\n".join([*parts, _what(result), "\n".join(f"- {line}" for line in others)])


def section(result: Result) -> str:
    """HTML of a result of `dbench peers`."""
    tables = [page.table(COLUMNS, lines, f"{title}. {_what(result)}") for title, lines in _tables(result)]
    others = [page.paragraph(f"{line}.") for line in _others(result)]
    text = f"Of {result.subject['name']}, measured with {page.listed(result.settings)}"
    return page.section("Peers", *tables, *others, page.results(result, text))


def _what(result: Result) -> str:
    """What is compared and how, and whether somebody trained the weights."""
    own = [row.details for row in result.rows if row.details.get("is_ours")]
    has_int8 = any(details["precision"] == "int8" for details in own)
    is_random = result.subject["weights"] == "random"
    return " ".join([PARITY, RATIO, SPLIT, *([INT8] if has_int8 else []), READY, *([RANDOM] if is_random else [])])


# ---- one result -----------------------------------------------------------------------------------------


def _tables(result: Result) -> list[tuple[str, list[list[str]]]]:
    """(title, lines) for each batch and precision, the fastest first."""
    calls = [row for row in result.rows if "gflop_s" in row.details]
    found = []
    for batch in dict.fromkeys(row.details["batch"] for row in calls):
        for precision in sorted({row.details["precision"] for row in calls}, key=_order):
            rows = [row for row in calls if (row.details["batch"], row.details["precision"]) == (batch, precision)]
            lines = [_line(row, result) for row in sorted(rows, key=lambda row: row.value or 0.0)]
            if lines:
                found.append((f"{precision}, calls of {_images_of(batch)}", lines))
    return found


def _order(precision: str) -> int:
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)


def _images_of(batch: int) -> str:
    return f"{batch} image" if batch == 1 else f"{batch} images"


def _line(row: ResultRow, result: Result) -> list[str]:
    name, batch = row.details["name"], row.details["batch"]
    ratio, share = (_found(result, of(name, batch)) for of in (ratio_name, share_name))
    parity = result.row(parity_name(name))
    return [
        name,
        record.shown(row, result.machine) + _interval(row),
        record.UNKNOWN if ratio is None else number(ratio.value) + _interval(ratio),
        number(row.details["gflop_s"]),
        record.UNKNOWN if share is None else number(share.value),
        number(parity.details["psnr_db"]),
        number(parity.value),
        number(row.details["opened_in_s"]),
    ]


def _interval(row: ResultRow) -> str:
    low, high = row.details["interval_95"]
    return f" ({number(low)} to {number(high)})"


def _found(result: Result, name: str) -> ResultRow | None:
    return next((row for row in result.rows if row.name == name), None)


def _others(result: Result) -> list[str]:
    """Sentences on what has no line in the tables."""
    return [*_rates(result), *_compared(result), *_images(result), *_cold_starts(result)]


def _compared(result: Result) -> list[str]:
    """A sentence for each answer of calls, and for each split graph."""
    found = []
    for row in result.rows:
        if "of" in row.details and "batch" in row.details:
            if row.name == split_name(row.details["of"], row.details["batch"]):
                found.append(f"{row.name}: {record.shown(row, result.machine)}{_interval(row)}")
            elif row.headline:
                times = f"{record.shown(row, result.machine)} times as fast{_interval(row)}"
                found.append(f"{row.name}: {times}, {row.details['of']} to {row.details['to']}")
    return found


def _images(result: Result) -> list[str]:
    """A sentence for each precision in which an image was drawn end to end."""
    rows = {row.details["name"]: row for row in result.rows if "from_the_plain_loop" in row.details}
    found = []
    for row in result.rows:
        if "to" in row.details and "psnr_db" in row.details:
            ours, theirs = (number(rows[row.details[key]].value) for key in ("of", "to"))
            times = f"{record.shown(row, result.machine)} times as fast{_interval(row)}"
            found.append(
                f"{row.name}: {times}, {ours} s to {theirs} s; both images agree to {number(row.details['psnr_db'])} dB"
            )
    return found


def _cold_starts(result: Result) -> list[str]:
    return [f"{row.name}: {record.shown(row, result.machine)} s" for row in result.rows if "cold start" in row.name]


def _rates(result: Result) -> list[str]:
    rows = (row for row in result.rows if "kernel" in row.details)
    return [f"{row.name}: {number(row.value)} GFLOP/s, by {row.details['kernel']}" for row in rows]


# ---- all results ----------------------------------------------------------------------------------------


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each model, batch and precision, our best beside its best peer; then the images.

    Args:
        results: with names.
    """
    head = (
        "network, images a call",
        "precision",
        "`drun` ms",
        "beside, ms",
        "times as fast (95 %)",
        "dB (beside)",
        "processor",
    )
    lines = [line for name, result in results for line in _digest_lines(name, result)]
    text = (
        "`dbench peers`: a call of our fastest target beside the fastest that a user would write with PyTorch, ONNX "
        "Runtime, OpenVINO or diffusers themselves, on the same weights and in turns; a split graph without its "
        f"conditioning, which a run computes once; dB from eager PyTorch in fp32. {RATIO} {INT8}"
    )
    images = [f"- `{name}`, {line}" for name, result in results for line in _images(result)]
    tail = "\n\nImages end to end, by `drun` and by a loop of plain OpenVINO calls:\n\n" + "\n".join(images)
    return f"{text}\n\n{record.table(head, lines, texts=(0, 1, 6))}{tail if images else ''}"


def _digest_lines(name: str, result: Result) -> list[list[str]]:
    found = []
    for row in result.rows:
        if row.headline and "batch" in row.details:
            of, to, batch = (row.details[key] for key in ("of", "to", "batch"))
            if result.row(call_name(to, batch)).details["precision"] != row.details["precision"]:
                continue
            found.append(
                [
                    f"`{name}`, {batch}",
                    row.details["precision"],
                    f"{_ms(result, of, batch)} ({of.removeprefix('drun, ')})",
                    f"{_ms(result, to, batch)} ({to})",
                    record.shown(row, result.machine) + _interval(row),
                    f"{_db(result, of)} ({_db(result, to)})",
                    record.where(result),
                ]
            )
    return found


def _ms(result: Result, name: str, batch: int) -> str:
    return record.shown(result.row(call_name(name, batch)), result.machine)


def _db(result: Result, name: str) -> str:
    return number(result.row(parity_name(name)).details["psnr_db"])
