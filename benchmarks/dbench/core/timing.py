"""Comparable latencies: the candidates take turns in one process, so that drift affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Between the turns of different runtimes. A thread pool keeps its cores busy for a while after a call, in wait for
#: the next (ONNX Runtime's for 20 ms and more, OpenMP's for 5 ms); on few cores it would slow the next runtime many
#: times over.
PAUSE_S = 0.1
#: Untimed calls at the start of such a turn, which wake the threads and warm the caches.
LEAD_IN = 5
#: Of a bootstrap, which is seeded: the same times give the same interval.
RESAMPLES, BOOTSTRAP_SEED = 5_000, 0

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median and the 10th and 90th percentile."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Timing:
    """Wall times of equal calls, in the order in which they were made."""

    latencies_ms: tuple[float, ...]

    @property
    def spread_ms(self) -> Spread:
        return spread(self.latencies_ms)

    def then(self, later: Timing) -> Timing:
        """These calls, then later ones."""
        return Timing(self.latencies_ms + later.latencies_ms)


def spread(values: Sequence[float]) -> Spread:
    """Percentiles with linear interpolation; there must be at least one value."""
    p10, median, p90 = np.quantile(np.asarray(values, np.float64), (0.1, 0.5, 0.9)).tolist()
    return Spread(median, p10, p90)


def interleave(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    warmup: int = 2,
    lead_in: int = 0,
    pause_s: float = 0.0,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, Timing]:
    """Time the calls in turn, A B A B ...; the i-th latencies of all of them belong together.

    Args:
        repeats: timed calls of each.
        warmup: untimed calls of each before the first turn.
        lead_in: untimed calls at the head of each turn.
        pause_s: rest before each turn, seconds.
        on_round: called with the number of finished rounds.
    """
    for call in calls.values():
        _repeat(call, warmup)
    latencies_ms: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(1, repeats + 1):
        for name, call in calls.items():
            time.sleep(pause_s)
            _repeat(call, lead_in)
            latencies_ms[name].append(_latency_ms(call))
        on_round(done)
    return {name: Timing(tuple(values)) for name, values in latencies_ms.items()}


def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def _latency_ms(call: Call) -> float:
    start_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1e6


def ratio_of_medians(numerator: Timing, denominator: Timing) -> float:
    return numerator.spread_ms.median / denominator.spread_ms.median


def pairwise_ratio(numerator: Timing, denominator: Timing) -> Spread:
    """Percentiles of the ratios within each round."""
    return spread(ratios(numerator, denominator))


def median_interval(values: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the median (Efron 1979): where it lies with this probability."""
    sample = np.asarray(values, np.float64)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(sample), size=(RESAMPLES, len(sample)))
    medians = np.median(sample[drawn], axis=1)
    low, high = np.quantile(medians, ((1 - share) / 2, (1 + share) / 2)).tolist()
    return low, high


def ratios(numerator: Timing, denominator: Timing) -> list[float]:
    """The ratio within each round."""
    pairs = zip(numerator.latencies_ms, denominator.latencies_ms, strict=True)
    return [above / below for above, below in pairs]


def overhead_percent(whole: Timing, bare: Timing) -> Spread:
    """(whole - bare) / bare within each round, percent."""
    pairs = zip(whole.latencies_ms, bare.latencies_ms, strict=True)
    return spread([100 * (total - part) / part for total, part in pairs])
