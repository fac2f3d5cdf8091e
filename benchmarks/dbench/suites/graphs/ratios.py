"""How many times faster one call is than another, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from dbench.core.timing import Timing

LEVEL = 0.95
#: Fewer pairs have no interval of this level: both ends lie on one side of the median too often, 2 / 2^n.
LEAST_PAIRS = 6


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, with the interval that holds the true median in 95 of 100 measurements."""

    median: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval reaches 1, so that it is open which one is faster."""
        return self.low <= 1 <= self.high


def speed_up(default: Timing, candidate: Timing) -> Ratio:
    """The default's time divided by the candidate's within each round."""
    pairs = zip(default.latencies_ms, candidate.latencies_ms, strict=True)
    return ratio_of([above / below for above, below in pairs])


def ratio_of(values: Sequence[float]) -> Ratio:
    """The median of independent values and its distribution-free interval.

    The interval lies between two order statistics (David and Nagaraja, Order Statistics, section 7.1): the true median
    is below the k-th of n values with the probability that fewer than k of n coins show heads.

    Raises:
        ValueError: fewer than LEAST_PAIRS values.
    """
    if len(values) < LEAST_PAIRS:
        raise ValueError(f"got {len(values)} values, expected at least {LEAST_PAIRS}")
    ordered = np.sort(np.asarray(values, np.float64))
    rank = _rank(len(ordered))
    return Ratio(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[-rank]))


def _rank(count: int) -> int:
    """The largest k for which at most 2.5 % of fair series of `count` coins show fewer than k heads."""
    share, rank = 0.0, 0
    while (share := share + comb(count, rank) / 2**count) <= (1 - LEVEL) / 2:
        rank += 1
    return rank
