"""The probability-flow ODE as solvers see it, against its exact solutions."""

from __future__ import annotations

import math

import pytest

from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import PATHS, FlowProcess
from drun.diffusion.process.ode import OdePoint

#: Processes of every kind, with a time at which sigma > 0 and a step away from it.
POINTS = [
    *((DiscreteProcess("linear"), t, 1e-3) for t in (0.5, 400.25, 998.5)),
    *((FlowProcess(path, noise_time), t, 1e-6) for path in PATHS for noise_time in (0, 1) for t in (0.02, 0.5, 0.9)),
]


def scales(process: Process, t: float) -> tuple[float, float]:
    return float(process.alpha(t)), float(process.sigma(t))


@pytest.mark.parametrize(("process", "t", "h"), POINTS)
@pytest.mark.parametrize(("x0", "eps"), [(0.7, -1.3), (-0.2, 0.4)])
def test_the_slope_is_that_of_a_straight_noising(process: Process, t: float, h: float, x0: float, eps: float) -> None:
    """Where the network says x0 throughout, x = alpha x0 + sigma eps solves the ODE: du/dclock by differences."""

    def state(t: float) -> float:
        alpha, sigma = scales(process, t)
        return (alpha * x0 + sigma * eps) / process.ode(t).scale

    here, before, after = (process.ode(time) for time in (t, t - h, t + h))
    slope = (state(t + h) - state(t - h)) / (after.clock - before.clock)
    x = state(t) * here.scale
    assert here.of_x * x + here.of_h * x0 == pytest.approx(slope, rel=1e-5)
    assert (here.t, here.estimate, here.has_slope) == (t, "x0", True)


@pytest.mark.parametrize("noise_time", [0, 1])
def test_by_velocity_the_slope_is_what_the_network_says(noise_time: int) -> None:
    process = FlowProcess("cosine", noise_time)
    data = process.at_depth(0.0)
    point = process.ode_by_velocity(data)
    assert point == OdePoint(data, 1.0, data, 0.0, 1.0, "velocity")
    assert point.has_slope


@pytest.mark.parametrize("process", [DiscreteProcess("cosine"), FlowProcess("vp", 0), FlowProcess("linear", 1)])
def test_the_end_is_the_data(process: Process) -> None:
    """There sigma/alpha = 0, or time is that of the data; and no slope is told."""
    end = process.ode_end()
    assert end.scale == 1
    assert not end.has_slope
    assert end.clock == (process.at_depth(0.0) if isinstance(process, FlowProcess) else 0.0)


def test_reach_is_the_step_on_the_clock_at_the_scale_of_its_end() -> None:
    here, there = OdePoint(3.0, 0.5, 8.0), OdePoint(2.0, 0.75, 2.0)
    assert here.reach(there) == 0.75 * (2.0 - 8.0)
    assert math.isnan(here.of_x)
