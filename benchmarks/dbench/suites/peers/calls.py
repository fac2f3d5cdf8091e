"""Times a call of everyone in turns, beside matrix products, and compares it with the best peer of its precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from dbench.core import timing
from dbench.core.inputs import Inputs
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Timing
from dbench.suites.peers.contest import Contestant, Entrant, bound
from dbench.suites.peers.names import call_name, parity_name, ratio_name, share_name, split_name
from dbench.suites.peers.products import Product, bursts
from dbench.suites.peers.settings import SUITE
from drun.bundle.artifact import SPLIT
from drun.console import Report
from drun.run.parity import Comparison

#: Untimed calls for this long wake the threads and warm the caches of whoever calls next; a call that takes twice as
#: long does so within itself.
WARM_MS = 30.0
GIGA = 1e9


@dataclass(frozen=True)
class Timed:
    """One batch size: the calls of everyone, and the matrix rates of the same rounds."""

    batch: int
    everyone: Sequence[Entrant]
    timings: Mapping[str, Timing]
    rates: Mapping[str, Mapping[str, Sequence[float]]]  # precision -> kernel -> its operations/s of each round
    flops: int  # of a call

    def joined(self, later: Timed) -> Timed:
        """These rounds, then later ones of the same contestants."""
        timings = {name: one.then(later.timings[name]) for name, one in self.timings.items() if name in later.timings}
        rates = {
            precision: {kernel: [*of_rounds, *later.rates[precision][kernel]] for kernel, of_rounds in found.items()}
            for precision, found in self.rates.items()
        }
        return replace(
            self, everyone=[one for one in self.everyone if one.name in timings], timings=timings, rates=rates
        )

    def kernel(self, precision: str) -> str:
        """The fastest kernel of a precision."""
        return max(self.rates[precision], key=lambda name: median(self.rates[precision][name]))

    def best(self, precision: str, is_ours: bool, proofs: Mapping[str, Comparison]) -> Entrant | None:
        """The fastest of a precision; one of ours must compute what eager PyTorch computes."""
        able = [
            one
            for one in self.everyone
            if (one.precision, one.is_ours) == (precision, is_ours) and (proofs[one.name].passed or not is_ours)
        ]
        return min(able, key=lambda one: self.timings[one.name].spread_ms.median, default=None)


def time_calls(
    everyone: Sequence[Contestant],
    given: Inputs,
    products: Sequence[Product],
    flops: int,
    threads: int,
    repeats: int,
    report: Report,
) -> Timed:
    """Time calls and bursts of matrix products in one run, all taking turns.

    Args:
        products: sizes of matrices. flops: operations of a call on these inputs.
    """
    calls: dict[str, Callable[[], object]] = {one.entrant.name: bound(one, given) for one in everyone}
    kernels = {
        (f"{library}, {product}, {precision}", precision, product): burst
        for product in products
        for (library, precision), burst in bursts(product, threads).items()
    }
    timings = timing.interleave(
        calls | {name: burst for (name, _, _), burst in kernels.items()},
        repeats,
        warmup=1,
        lead_in=_lead_in(calls),
        pause_s=timing.PAUSE_S,
        on_round=lambda done: report(f"timing calls of {len(given[0])}", done, repeats),
    )
    rates: dict[str, dict[str, list[float]]] = {}
    for name, precision, product in kernels:
        found = [product.flops * product.times / (ms / 1e3) for ms in timings[name].latencies_ms]
        rates.setdefault(precision, {})[name] = found
    return Timed(len(given[0]), [one.entrant for one in everyone], timings, rates, flops)


def _lead_in(calls: Mapping[str, Callable[[], object]]) -> int:
    once = timing.interleave(calls, 1, warmup=1)
    return min(timing.LEAD_IN, round(WARM_MS / min(found.spread_ms.median for found in once.values())))


# ---- rows -----------------------------------------------------------------------------------------------


def call_rows(timed: Timed, proofs: Mapping[str, Comparison]) -> list[ResultRow]:
    """Latency, ratio and share of everyone, then the comparisons of the best, then the matrix rates."""
    rows = []
    for one in timed.everyone:
        rows += [_latency_row(one, timed, proofs[one.name]), *_ratio_row(one, timed, proofs), *_share_row(one, timed)]
    return [*rows, *_answer_rows(timed, proofs), *_split_rows(timed), *_rate_rows(timed)]


def _latency_row(one: Entrant, timed: Timed, proof: Comparison) -> ResultRow:
    times = timed.timings[one.name]
    details = {
        "name": one.name,
        "precision": one.precision,
        "is_ours": one.is_ours,
        "batch": timed.batch,
        "interval_95": timing.median_interval(times.latencies_ms),
        "gflop_s": timed.flops / (times.spread_ms.median / 1e3) / GIGA,
        "opened_in_s": one.opened_in_s,
        "latencies_ms": times.latencies_ms,
    }
    doubt = None if proof.passed else "it is farther from eager PyTorch than its precision allows"
    return spread_row(SUITE, call_name(one.name, timed.batch), times.spread_ms, "ms", details=details, doubt=doubt)


def _ratio_row(one: Entrant, timed: Timed, proofs: Mapping[str, Comparison]) -> list[ResultRow]:
    best = timed.best(one.precision, False, proofs)
    return [] if best is None else [_compared(one, best, timed, ratio_name(one.name, timed.batch))]


def _compared(one: Entrant, other: Entrant, timed: Timed, name: str, headline: str = "") -> ResultRow:
    """How many times as fast one is as another, from the pairs of each round."""
    found = timing.ratios(timed.timings[other.name], timed.timings[one.name])
    details = {
        "of": one.name,
        "to": other.name,
        "precision": one.precision,
        "batch": timed.batch,
        "interval_95": timing.median_interval(found),
    }
    return spread_row(SUITE, name, timing.spread(found), "x", details=details, headline=headline)


def _share_row(one: Entrant, timed: Timed) -> list[ResultRow]:
    if one.precision not in timed.rates:
        return []
    rates = timed.rates[one.precision][timed.kernel(one.precision)]
    pairs = zip(timed.timings[one.name].latencies_ms, rates, strict=True)
    shares = [100 * timed.flops / (ms / 1e3) / rate for ms, rate in pairs]
    return [spread_row(SUITE, share_name(one.name, timed.batch), timing.spread(shares), "%")]


def _answer_rows(timed: Timed, proofs: Mapping[str, Comparison]) -> list[ResultRow]:
    """Our best beside the best peer in each precision; our bf16 beside their fp32; our int8 beside our fp32."""
    pairs = [(precision, True, precision, False) for precision in dict.fromkeys(o.precision for o in timed.everyone)]
    pairs += [("bf16", True, "fp32", False), ("int8", True, "fp32", True)]
    rows = []
    for precision, is_ours, other_precision, is_other_ours in pairs:
        one, other = timed.best(precision, is_ours, proofs), timed.best(other_precision, is_other_ours, proofs)
        if one is not None and other is not None:
            whose = "drun" if is_other_ours else "the best peer"
            name = f"drun in {precision} to {whose} in {other_precision}, batch {timed.batch}"
            headline = f"as fast as {whose} in {other_precision}: drun in {precision}, calls of {timed.batch}"
            rows.append(_compared(one, other, timed, name, headline))
    return rows


def _split_rows(timed: Timed) -> list[ResultRow]:
    """Each of our split graphs beside the same graph in one piece."""
    by_name = {one.name: one for one in timed.everyone if one.is_ours}
    pairs = [(one, by_name.get(name.replace(f"-{SPLIT}", "", 1))) for name, one in by_name.items()]
    return [
        _compared(one, whole, timed, split_name(one.name, timed.batch))
        for one, whole in pairs
        if whole is not None and whole is not one
    ]


def _rate_rows(timed: Timed) -> list[ResultRow]:
    return [
        spread_row(
            SUITE,
            f"matrix rate in {precision}, batch {timed.batch}",
            timing.spread([rate / GIGA for rate in rates[timed.kernel(precision)]]),
            "GFLOP/s",
            details={"kernel": timed.kernel(precision), "batch": timed.batch},
        )
        for precision, rates in timed.rates.items()
    ]


def parity_row(name: str, proof: Comparison) -> ResultRow:
    details = {"psnr_db": proof.psnr_db, "allowed": proof.tolerance, "passed": proof.passed, "at": proof.name}
    return ResultRow(SUITE, parity_name(name), proof.relative_l2, "", details=details)
