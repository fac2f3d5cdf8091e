"""Computes rows from the times of whole batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbench.core import timing
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Timing
from dbench.suites.throughput.names import RowNames
from dbench.suites.throughput.settings import SUITE
from drun.run.parity import Comparison

TERA = 1e12


@dataclass(frozen=True)
class Times:
    """The times of everyone in the same rounds.

    ways, bare: by the names of the ways; `bare` are the network calls alone of those that walk on a device.
    """

    ways: Mapping[str, Timing]
    bare: Mapping[str, Timing]
    bursts: Timing


@dataclass(frozen=True)
class Work:
    """Operations of the network calls of a whole batch, and of a burst of matrix products."""

    batch_flops: int
    burst_flops: int


def proofs(found: Mapping[str, Comparison], names: RowNames) -> list[ResultRow]:
    """How far the images of each are from those of eager PyTorch in float32."""
    return [
        ResultRow(
            SUITE, names.error(way), proof.relative_l2, "", details={"psnr_db": proof.psnr_db}, doubt=doubt(proof)
        )
        for way, proof in found.items()
    ]


def doubt(proof: Comparison) -> str | None:
    """Why the speed of a way says nothing; None if it draws the right images."""
    return None if proof.passed else f"it draws other images: {proof.tolerance:g} is allowed"


def speeds(times: Times, work: Work, names: RowNames, doubts: Mapping[str, str | None]) -> list[ResultRow]:
    """Images a second of each, its share of the matrix rate, and how many times as fast as the first it is.

    doubts: by the names of the ways.
    """
    usual, *_ = times.ways
    rows: list[ResultRow] = []
    for way, own in times.ways.items():
        doubted = doubts.get(way)
        rows += [_speed_row(way, own, names, doubted), _share_row(way, own, times.bursts, work, names)]
        if way != usual:
            ratios, to = timing.pairwise_ratio(times.ways[usual], own), {"to": usual}
            headline = "" if doubted else f"{way}, times as fast as {usual}"
            rows.append(spread_row(SUITE, names.ratio(way), ratios, "x", details=to, headline=headline, doubt=doubted))
        if way in times.bare:
            added = timing.overhead_percent(own, times.bare[way])
            rows.append(spread_row(SUITE, names.added(way), added, "%"))
    rates = timing.spread([work.burst_flops / (ms / 1e3) / TERA for ms in times.bursts.latencies_ms])
    return [*rows, spread_row(SUITE, names.rate, rates, "TFLOP/s")]


def _speed_row(way: str, times: Timing, names: RowNames, doubted: str | None) -> ResultRow:
    images = timing.spread([names.batch * 1e3 / ms for ms in times.latencies_ms])
    details = {"seconds": [ms / 1e3 for ms in times.latencies_ms]}
    return spread_row(SUITE, names.speed(way), images, "1/s", details=details, doubt=doubted)


def _share_row(way: str, times: Timing, bursts: Timing, work: Work, names: RowNames) -> ResultRow:
    """Of the rate of matrix products in the same round."""
    rounds = zip(times.latencies_ms, bursts.latencies_ms, strict=True)
    share = timing.spread([100 * (work.batch_flops / own) / (work.burst_flops / burst) for own, burst in rounds])
    return spread_row(SUITE, names.share(way), share, "%", details={"flops": work.batch_flops})
