"""The rows of a candidate at one batch size."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core import timing
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Timing
from dbench.suites.graphs.settings import SUITE
from drun.run.parity import Comparison

DEFAULT = "default"
MB = 1e6


@dataclass(frozen=True)
class Measured:
    """What was measured of a candidate at one batch size."""

    name: str
    batch: int
    default: Timing  # of the default, round by round
    own: Timing
    proof: Comparison  # the worst call against eager PyTorch
    opening_s: float
    size_bytes: int


def row_name(candidate: str, batch: int, what: str) -> str:
    return f"{candidate}, batch {batch}, {what}"


CALL, SPEED_UP, ERROR, OPENING, FILES = "call", "times as fast as the default", "relative L2", "opening", "files"


def rows_of(one: Measured, summary: str) -> list[ResultRow]:
    """A call's time, its ratio to the default's, the error, the time to open the session and the size of the files.

    A ratio whose 95 % interval reaches 1 is doubtful.
    """
    pairs = timing.ratios(one.default, one.own)
    low, high = timing.median_interval(pairs)
    proof = {"passed": one.proof.passed, "at": one.proof.name, "psnr_db": one.proof.psnr_db}

    def named(what: str) -> str:
        return row_name(one.name, one.batch, what)

    call = {"is": summary, "latencies_ms": one.own.latencies_ms}
    doubt = "its 95 % interval reaches 1" if low <= 1 <= high and one.name != DEFAULT else ""
    return [
        spread_row(SUITE, named(CALL), one.own.spread_ms, "ms", details=call),
        spread_row(
            SUITE, named(SPEED_UP), timing.spread(pairs), "x", details={"interval_95": (low, high)}, doubt=doubt
        ),
        ResultRow(SUITE, named(ERROR), one.proof.relative_l2, "", details=proof),
        ResultRow(SUITE, named(OPENING), one.opening_s, "s"),
        ResultRow(SUITE, named(FILES), one.size_bytes / MB, "MB", details={"bytes": one.size_bytes}),
    ]
