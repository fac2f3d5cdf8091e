"""The noise schedules against the papers' formulas, and the process against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.diffusion.process.discrete import SCHEDULES, DiscreteProcess
from drun.errors import ConfigError

#: T = 1000: beta at 0, 500, 999 and abar at 250, 500, 750, 999, computed in float64 from the papers' formulas.
VECTORS = {
    "linear":  ([1e-4, 0.01005995996, 0.02], [0.5214230306, 0.07779665837, 0.003300158362, 4.035829765e-5]),
    "cosine":  ([1e-4, 0.003155691442, 0.9999], [0.8455629114, 0.4920959871, 0.1431236228, 2.4278e-10]),
    "sigmoid": ([3.002792e-4, 0.003314364236, 0.999], [0.8498630092, 0.4983428179, 0.148159681, 3.002792e-7]),
}  # fmt: skip


@pytest.mark.parametrize("schedule", VECTORS)
def test_schedule_matches_the_papers_formulas(schedule: str) -> None:
    betas, alphas_cumprod = VECTORS[schedule]
    process = DiscreteProcess(schedule)
    np.testing.assert_allclose(process.betas[[0, 500, 999]], betas, rtol=0, atol=1e-9)
    np.testing.assert_allclose(process.alphas_cumprod[[250, 500, 750, 999]], alphas_cumprod, rtol=0, atol=1e-9)


def test_small_values_match_in_their_digits() -> None:
    """An absolute 1e-9 says nothing about an abar of 1e-10."""
    assert DiscreteProcess("cosine").alphas_cumprod[999] == pytest.approx(2.4278e-10, rel=1e-4)
    assert DiscreteProcess("linear").alphas_cumprod[999] == pytest.approx(4.035829765e-5, rel=1e-9)
    assert DiscreteProcess("sigmoid").alphas_cumprod[999] == pytest.approx(3.002792e-7, rel=1e-6)


def test_scaled_linear_is_linear_in_the_root() -> None:
    """Rombach et al. 2022: sqrt(beta) runs evenly from sqrt(0.00085) to sqrt(0.012)."""
    start, end = math.sqrt(0.00085), math.sqrt(0.012)
    expected = [(start + (end - start) * i / 999) ** 2 for i in range(1000)]
    np.testing.assert_allclose(DiscreteProcess("scaled_linear").betas, expected, rtol=0, atol=1e-12)


def test_linear_is_scaled_by_1000_over_t() -> None:
    betas = DiscreteProcess("linear", 50).betas
    np.testing.assert_allclose(betas, [20 * (1e-4 + (0.02 - 1e-4) * i / 49) for i in range(50)], rtol=1e-12)


def test_cosine_follows_its_formula_between_the_clips() -> None:
    def abar(i: int) -> float:
        return math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = DiscreteProcess("cosine").betas
    for i in (13, 100, 500, 998):
        assert betas[i] == pytest.approx(1 - abar(i + 1) / abar(i), abs=1e-12)
    np.testing.assert_array_equal(betas[:13], 1e-4)


@pytest.mark.parametrize("num_timesteps", [2, 10, 19, 20])
def test_linear_with_an_illegal_beta_is_refused(num_timesteps: int) -> None:
    with pytest.raises(ConfigError, match=rf"'linear' with {num_timesteps} timesteps has a beta of .*expected all in"):
        DiscreteProcess("linear", num_timesteps)


def test_the_shortest_legal_linear_chain() -> None:
    assert DiscreteProcess("linear", 21).betas.max() < 1


def test_a_chain_of_one_step() -> None:
    """From cos^2 of almost 0 to cos^2 of pi/2, at the upper clip."""
    assert DiscreteProcess("cosine", 1).betas.tolist() == [0.9999]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [25, 1000, 4000])
def test_every_schedule_is_finite_and_falls(schedule: str, num_timesteps: int) -> None:
    process = DiscreteProcess(schedule, num_timesteps)
    assert process.betas.shape == (num_timesteps,)
    assert process.betas.dtype == np.float64
    assert np.all((process.betas > 0) & (process.betas < 1))
    assert np.all(np.diff(process.alphas_cumprod) < 0)
    assert np.all(np.diff(process.log_ratios) > 0)


def test_alpha_and_sigma_at_whole_times_are_the_square_roots() -> None:
    process = DiscreteProcess("cosine")
    abar = np.cumprod(1 - process.betas)
    np.testing.assert_allclose(process.alpha(np.arange(1000)), np.sqrt(abar), rtol=1e-12)
    np.testing.assert_allclose(process.sigma(np.arange(1000)), np.sqrt(1 - abar), rtol=1e-12)
    np.testing.assert_allclose(process.ratio(np.arange(1000)), np.sqrt((1 - abar) / abar), rtol=1e-12)


@given(time=st.floats(0, 999), schedule=st.sampled_from(sorted(SCHEDULES)))
@settings(max_examples=50, deadline=None)
def test_fractional_times(time: float, schedule: str) -> None:
    """Variance is preserved, `time` inverts `ratio`, and log(ratio) lies on the chord of its neighbours."""
    process = DiscreteProcess(schedule)
    assert process.alpha(time) ** 2 + process.sigma(time) ** 2 == pytest.approx(1, abs=1e-12)
    assert process.sigma(time) / process.alpha(time) == pytest.approx(float(process.ratio(time)), rel=1e-12)
    assert process.time(process.ratio(time)) == pytest.approx(time, abs=1e-6)
    low, part = int(time), time - int(time)
    ends = np.log(process.ratio([low, min(low + 1, 999)]))
    assert np.log(process.ratio(time)) == pytest.approx((1 - part) * ends[0] + part * ends[1], abs=1e-9)


def test_times_outside_the_chain_are_clamped() -> None:
    process = DiscreteProcess("linear")
    assert process.time(1e-9) == 0
    assert process.time(1e9) == 999


def test_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown noise schedule 'sine': choose one of linear, cosine"):
        DiscreteProcess("sine")


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match="number of timesteps got 0, expected 1 to"):
        DiscreteProcess("cosine", 0)
