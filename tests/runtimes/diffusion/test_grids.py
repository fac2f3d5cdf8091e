"""The times a sampler visits, against the published grids and an independent respacing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.diffusion.grids import even_times, ode_steps, respace, times
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError

PROCESS = DiscreteProcess("linear")
COSINE = DiscreteProcess("cosine")

#: 10 of 1000 steps as diffusers and OpenAI choose them
TEN = {
    "ddim10":   [0, 100, 200, 300, 400, 500, 600, 700, 800, 900],
    "ddim":     [0, 100, 200, 300, 400, 500, 600, 700, 800, 900],
    "leading":  [0, 100, 200, 300, 400, 500, 600, 700, 800, 900],
    "linspace": [0, 111, 222, 333, 444, 555, 666, 777, 888, 999],
    "respaced": [0, 111, 222, 333, 444, 555, 666, 777, 888, 999],
    "10":       [0, 111, 222, 333, 444, 555, 666, 777, 888, 999],
    "trailing": [99, 199, 299, 399, 499, 599, 699, 799, 899, 999],
}  # fmt: skip

INTEGER_GRIDS = ["leading", "linspace", "trailing", "respaced"]


@pytest.mark.parametrize("grid", TEN)
def test_ten_of_a_thousand(grid: str) -> None:
    assert times(PROCESS, 10, grid) == TEN[grid][::-1]


def test_the_respacing_of_dit_250_of_1000() -> None:
    """Gaps of 4, and of 5 after the kept indices 41, 124 and 207."""
    kept = times(PROCESS, 250, "respaced")[::-1]
    gaps = np.diff(kept)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, 250)
    assert np.flatnonzero(gaps == 5).tolist() == [41, 124, 207]
    assert set(gaps) == {4, 5}


def test_section_counts() -> None:
    """OpenAI's "10,15,25": three sections of 334, 333 and 333, each with both of its ends."""
    kept = times(PROCESS, 50, "10,15,25")[::-1]
    sections = [kept[:10], kept[10:25], kept[25:]]
    assert [(section[0], section[-1]) for section in sections] == [(0, 333), (334, 666), (667, 999)]
    for section, size in zip(sections, (334, 333, 333), strict=True):
        stride = Fraction(size - 1, len(section) - 1)
        assert section == [section[0] + round(i * stride) for i in range(len(section))]


def test_a_section_of_one_keeps_its_start() -> None:
    assert times(PROCESS, 3, "1,1,1") == [667, 334, 0]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_respacing_rounds_exact_strides(data: st.DataObject) -> None:
    """Against exact fractions; where i * stride is a half, floating point may fall to either side."""
    size = data.draw(st.integers(1, 2000))
    count = data.draw(st.integers(1, size))
    kept = respace(size, count)
    stride = Fraction(size - 1, count - 1) if count > 1 else Fraction(1)
    exact = [i * stride for i in range(count)]
    assert all(k == round(e) or abs(k - e) == Fraction(1, 2) for k, e in zip(kept, exact, strict=True))
    assert len(set(kept)) == count
    assert kept[0] == 0
    assert count == 1 or kept[-1] == size - 1


@given(st.data(), st.sampled_from(INTEGER_GRIDS))
@settings(max_examples=60, deadline=None)
def test_integer_grids_fall_through_distinct_legal_times(data: st.DataObject, grid: str) -> None:
    num_timesteps = data.draw(st.integers(21, 1200))
    num_steps = data.draw(st.integers(1, num_timesteps))
    visited = times(DiscreteProcess("linear", num_timesteps), num_steps, grid)
    assert len(visited) == num_steps
    assert all(type(t) is float and t.is_integer() for t in visited)
    assert np.all(np.diff(visited) < 0)
    assert 0 <= visited[-1] <= visited[0] <= num_timesteps - 1


@pytest.mark.parametrize("grid", [*INTEGER_GRIDS, "ddim", "1000"])
def test_all_steps_are_all_times(grid: str) -> None:
    assert times(PROCESS, 1000, grid) == list(range(999, -1, -1))


@pytest.mark.parametrize(("grid", "first"), [("leading", 0), ("linspace", 0), ("trailing", 999), ("respaced", 0)])
def test_one_step(grid: str, first: int) -> None:
    assert times(PROCESS, 1, grid) == [first]


@given(st.integers(1, 1000))
@settings(max_examples=50, deadline=None)
def test_trailing_is_t_minus_multiples_rounded(num_steps: int) -> None:
    """diffusers: round(arange(T, 0, -T/N)) - 1."""
    expected = [round(Fraction(1000) - i * Fraction(1000, num_steps)) - 1 for i in range(num_steps)]
    got = times(PROCESS, num_steps, "trailing")
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) <= 1
    assert got[0] == 999


@pytest.mark.parametrize("num_steps", [1000, 500, 334, 250, 200, 167, 143, 125, 112, 100, 91, 84, 77, 50, 25, 20, 10])
def test_ddim_counts_that_exist(num_steps: int) -> None:
    kept = times(PROCESS, num_steps, f"ddim{num_steps}")[::-1]
    stride = next(s for s in range(1, 1001) if len(range(0, 1000, s)) == num_steps)
    assert kept == list(range(0, 1000, stride))


@pytest.mark.parametrize(("num_steps", "near"), [(300, "250, 334"), (400, "334, 500"), (999, "500, 1000")])
def test_ddim_counts_that_do_not_exist_name_the_nearest(num_steps: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"no whole stride gives {num_steps} of 1000 steps.*{near}"):
        times(PROCESS, num_steps, "ddim")


def karras(low: float, high: float, n: int) -> list[float]:
    """Karras et al. 2022, eq. 5, without the final zero."""
    rho = 7
    return [(high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)]


def test_karras_grid_of_the_linear_chain() -> None:
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    low, high = np.sqrt((1 - abar[[0, -1]]) / abar[[0, -1]])
    assert high == pytest.approx(157.41, abs=0.01)
    np.testing.assert_allclose(PROCESS.ratio(times(PROCESS, 18, "karras")), karras(low, high, 18), rtol=1e-9)


def test_karras_grid_of_the_cosine_chain_leaves_out_pure_noise() -> None:
    low = np.sqrt(1e-4 / (1 - 1e-4))
    np.testing.assert_allclose(COSINE.ratio(times(COSINE, 18, "karras")), karras(low, 200, 18), rtol=1e-9)


def test_karras_in_one_step_starts_at_the_top() -> None:
    assert times(PROCESS, 1, "karras") == [pytest.approx(999)]


@pytest.mark.parametrize(
    ("num_steps", "grid", "message"),
    [
        (0, "leading", "cannot sample in 0 steps: this model has 1000 timesteps, choose from 1 to 1000"),
        (-3, "karras", "cannot sample in -3 steps"),
        (1001, "trailing", "cannot sample in 1001 steps: this model has 1000"),
        (10, "zigzag", "unknown grid 'zigzag': choose one of leading, linspace, trailing, respaced, karras, ddimN"),
        (10, "9" * 5000, "unknown grid '9{40}': choose one of"),
        (10, "10,15,25", "grid '10,15,25' holds 50 steps, expected 10"),
        (10, "", "holds 0 steps, expected 10"),
        (501, "501,0", "got 501 steps in a section of 500 timesteps, expected 1 to 500"),
        (502, "1,501", "got 501 steps in a section of 500 timesteps, expected 1 to 500"),
        (10, "ddim20", "grid 'ddim20' does not fit 10 steps"),
    ],
)
def test_impossible_grids_are_refused(num_steps: int, grid: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        times(PROCESS, num_steps, grid)


# --- flows


@pytest.mark.parametrize(("noise_time", "expected"), [(1, [1.0, 0.75, 0.5, 0.25]), (0, [0.0, 0.25, 0.5, 0.75])])
@pytest.mark.parametrize("grid", ["auto", "trailing"])
def test_even_times_of_a_flow_begin_at_the_noise(noise_time: int, expected: list[float], grid: str) -> None:
    assert times(FlowProcess("cosine", noise_time), 4, grid) == expected


def test_even_times_keep_the_margins() -> None:
    """`vp` has none at its noise."""
    assert even_times(FlowProcess("linear", 0, 0.1), 2, 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert even_times(FlowProcess("vp", 1, 0.1), 2, 0.1) == pytest.approx([1.0, 0.55, 0.1])


@pytest.mark.parametrize("noise_time", [0, 1])
def test_karras_grid_of_a_flow(noise_time: int) -> None:
    """From 200 to 0.002 in sigma/alpha; sigma/alpha = depth / (1 - depth) on the linear path."""
    visited = times(FlowProcess("linear", noise_time), 5, "karras")
    depths = np.array(visited if noise_time else [1 - t for t in visited])
    np.testing.assert_allclose(depths / (1 - depths), karras(0.002, 200, 5), rtol=1e-9)


def test_a_flow_has_no_grid_of_indices() -> None:
    with pytest.raises(ConfigError, match="a flow has no grid 'respaced': choose trailing or karras"):
        times(FlowProcess(), 4, "respaced")


# --- steps of ODE solvers


@pytest.mark.parametrize("process", [PROCESS, FlowProcess("cosine", 1)])
@pytest.mark.parametrize("grid", ["auto", "trailing", "karras"])
def test_ode_steps_lead_through_the_grid_to_the_data(process: Process, grid: str) -> None:
    pairs = ode_steps(process, 5, grid)
    visited = times(process, 5, grid, usual="karras")
    assert [here for here, _ in pairs] == [process.ode(t) for t in visited]
    assert [there for _, there in pairs[:-1]] == [here for here, _ in pairs[1:]]
    assert pairs[-1][1].clock == process.ode_end().clock
    assert not pairs[-1][1].has_slope


@pytest.mark.parametrize(
    ("process", "last_step"), [(FlowProcess("vp", 0, 1e-3), "auto"), (FlowProcess("linear", 1, 0.1), "heun")]
)
def test_a_corrected_last_step_has_a_slope_at_both_of_its_ends(process: FlowProcess, last_step: str) -> None:
    """All steps but the last are written for the clean image, the last for the velocity; it ends at the margin."""
    *others, (here, there) = ode_steps(process, 3, "auto", last_step)
    visited = even_times(process, 3, process.margin)
    assert [point for pair in others for point in pair] == [process.ode(visited[i]) for i in (0, 1, 1, 2)]
    assert (here, there) == tuple(process.ode_by_velocity(t) for t in visited[2:])
    assert float(process.depth(there.t)) == pytest.approx(process.margin)
