"""Steps to a distance, and their ratio, on curves whose answer is known by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbench.suites.repa.crossing import Curve, final_ratios, median_curve, speedup, steps_to

DISTANCES = st.lists(st.floats(0.01, 100), min_size=4, max_size=4)
STEPS = (100, 200, 300, 400)


def falling(rate: float) -> Curve:
    """distance = 9 e^(-rate step), which is straight in step and log distance."""
    return Curve(STEPS, tuple(9 * math.exp(-rate * step) for step in STEPS))


def test_between_checkpoints_it_is_straight_in_step_and_log_distance() -> None:
    curve = Curve((100, 200, 300), (8, 4, 1))
    assert steps_to(curve, 2) == pytest.approx(250)
    assert steps_to(curve, 4) == 200
    assert steps_to(curve, 4 * math.sqrt(2)) == pytest.approx(150)


def test_the_ends() -> None:
    curve = Curve((100, 200), (8, 4))
    assert steps_to(curve, 10) == 100  # nothing is known of before
    assert steps_to(curve, 4) == 200
    assert steps_to(curve, 3.9) is None


def test_a_worse_checkpoint_does_not_undo_a_better_one() -> None:
    curve = Curve(STEPS, (8, 2, 5, 1))
    assert steps_to(curve, 3) == pytest.approx(100 + 100 * math.log(8 / 3) / math.log(4))
    assert steps_to(curve, math.sqrt(2)) == pytest.approx(350)  # from the 2 that was reached, not from the 5


def test_distances_that_differ_in_the_last_digit() -> None:
    assert steps_to(Curve((100, 200), (math.nextafter(0.01, 1), 0.01)), 0.01) == 200


def test_twice_as_fast_is_a_ratio_of_two() -> None:
    gain = speedup(falling(0.005), falling(0.01), 400)
    assert gain.ratio == pytest.approx(2)
    assert (gain.reached, gain.plain_steps, gain.aligned_steps) == (True, 400, pytest.approx(200))
    assert gain.target == falling(0.005).final


def test_earlier_targets() -> None:
    """Twice as fast at first, then as fast as the plain run."""
    plain = Curve(STEPS, (8, 4, 2, 1))
    aligned = Curve(STEPS, (4, 3.9, 2, 1))
    assert [speedup(plain, aligned, at).ratio for at in STEPS] == pytest.approx([1, 2, 1, 1])
    assert speedup(plain, aligned, 200).target == 4


def test_half_as_fast_is_a_ratio_of_a_half() -> None:
    gain = speedup(falling(0.01), falling(0.005), 400)
    assert gain.ratio == pytest.approx(0.5)
    assert (gain.reached, gain.plain_steps, gain.aligned_steps) == (False, pytest.approx(200), 400)
    assert gain.target == falling(0.005).final


def test_a_last_plain_checkpoint_that_came_out_badly_is_no_gain() -> None:
    plain, repa = Curve(STEPS, (8, 4, 2, 4)), Curve(STEPS, (8, 4, 2, 1))
    assert speedup(plain, repa, 400).ratio == 1


def test_who_stays_above_the_plain_model_is_slower_however_soon_it_came_there() -> None:
    plain, repa = Curve(STEPS, (8, 4, 2, 1)), Curve(STEPS, (1.5, 1.5, 1.5, 1.5))
    gain = speedup(plain, repa, 400)
    assert not gain.reached
    assert gain.ratio == pytest.approx((300 + 100 * math.log(2 / 1.5) / math.log(2)) / 400)


@given(DISTANCES, DISTANCES)
def test_the_ratio_is_below_one_where_repa_never_gets_there(plain: list[float], repa: list[float]) -> None:
    gain = speedup(Curve(STEPS, tuple(plain)), Curve(STEPS, tuple(repa)), 400)
    assert gain.reached == (min(repa) <= plain[-1])
    assert 0.25 <= gain.ratio <= 4
    assert gain.reached or gain.ratio < 1


@given(DISTANCES)
def test_equal_runs_are_equally_fast(distances: list[float]) -> None:
    curve = Curve(STEPS, tuple(distances))
    assert speedup(curve, curve, 400).ratio == 1


def test_over_seeds() -> None:
    curves = [Curve((1, 2), (10, 1)), Curve((1, 2), (30, 2)), Curve((1, 2), (20, 9))]
    assert median_curve(curves) == Curve((1, 2), (20, 2))
    other = [Curve((1, 2), (1, final)) for final in (2, 1, 3)]
    assert final_ratios(curves, other).median == 2  # of 0.5, 2 and 3
