"""Ratios of paired times, and their intervals."""

from __future__ import annotations

import pytest

from dbench.core.timing import Timing
from dbench.suites.graphs.ratios import Ratio, speed_up


def test_a_speed_up_is_the_median_of_the_ratios_within_rounds() -> None:
    default, candidate = Timing((2.0, 3.0, 4.0, 5.0, 6.0, 70.0)), Timing((1.0, 2.0, 2.0, 5.0, 3.0, 10.0))
    found = speed_up(default, candidate)
    assert found.median == 2.0
    assert 1.0 <= found.low < 2.0 < found.high <= 7.0


@pytest.mark.parametrize(("low", "high", "is_noise"), [(0.9, 1.1, True), (1.01, 1.1, False), (0.8, 0.99, False)])
def test_noise_is_an_interval_that_reaches_one(low: float, high: float, is_noise: bool) -> None:
    assert Ratio(1.0, low, high).is_noise is is_noise
