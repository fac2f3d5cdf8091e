"""Ratios of paired times, and their intervals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dbench.core.timing import Timing
from dbench.suites.graphs.ratios import LEAST_PAIRS, Ratio, ratio_of, speed_up


def test_a_speed_up_is_the_median_of_the_ratios_within_rounds() -> None:
    default, candidate = Timing((2.0, 3.0, 4.0, 5.0, 6.0, 70.0)), Timing((1.0, 2.0, 2.0, 5.0, 3.0, 10.0))
    assert speed_up(default, candidate) == Ratio(2.0, 1.0, 7.0)


def coverage(count: int, rank: int) -> float:
    """The share of all series of fair coins whose median lies between the rank-th lowest and highest value."""
    heads = [sum(coins) for coins in product((0, 1), repeat=count)]
    return sum(rank <= found <= count - rank for found in heads) / 2**count


@pytest.mark.parametrize("count", [6, 9, 12, 15])
def test_the_interval_is_the_narrowest_that_holds_the_median_in_95_of_100(count: int) -> None:
    found = ratio_of([float(value) for value in reversed(range(1, count + 1))])
    rank = int(found.low)
    assert found.high == count + 1 - rank
    assert coverage(count, rank) >= 0.95 > coverage(count, rank + 1)


def test_the_interval_of_twenty_values_is_that_of_tables() -> None:
    """Conover, Practical Nonparametric Statistics: the 6th and the 15th of 20."""
    assert ratio_of(np.arange(1.0, 21.0).tolist()) == Ratio(10.5, 6.0, 15.0)


def test_too_few_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match=r"got 5 values, expected at least 6"):
        ratio_of([1.0] * (LEAST_PAIRS - 1))


@pytest.mark.parametrize(("low", "high", "is_noise"), [(0.9, 1.1, True), (1.01, 1.1, False), (0.8, 0.99, False)])
def test_noise_is_an_interval_that_reaches_one(low: float, high: float, is_noise: bool) -> None:
    assert Ratio(1.0, low, high).is_noise is is_noise
