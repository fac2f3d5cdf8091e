"""How many times faster one call is than another, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core import timing
from dbench.core.timing import Timing


@dataclass(frozen=True)
class Ratio:
    """A median of ratios, and its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval reaches 1, so that it is open which one is faster."""
        return self.low <= 1 <= self.high


def speed_up(default: Timing, candidate: Timing) -> Ratio:
    """The default's time divided by the candidate's within each round."""
    found = timing.ratios(default, candidate)
    return Ratio(timing.spread(found).median, *timing.median_interval(found))
