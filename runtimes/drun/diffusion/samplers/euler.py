"""Euler's method on the probability-flow ODE: of a flow in x over t, else in x/alpha over sigma/alpha."""

from __future__ import annotations

from itertools import pairwise

from drun.diffusion.grids import times
from drun.diffusion.process import Process
from drun.diffusion.process.ode import OdePoint
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process: Process, num_steps: int, *, grid: str = "auto") -> list[Step]:
    """First order, one network call a step; the last step ends at the data.

    For flows the ODE samplers of SiT (Ma et al. 2024) and REPA (Yu et al. 2025), for diffusion Karras et al. 2022,
    algorithm 1 without the correction.
    """
    visited = times(process, num_steps, grid, usual="karras")
    points = [*(process.ode(t) for t in visited), process.ode_end()]
    return [euler_step(process, t, *pair) for t, pair in zip(visited, pairwise(points), strict=True)]


def euler_step(process: Process, t: float, here: OdePoint, there: OdePoint) -> Step:
    """From time t along the tangent: u += dclock (of_x0 x0 + of_noise eps) with eps = (x - alpha x0) / sigma."""
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    reach = there.scale * (there.clock - here.clock)
    slope = here.of_noise / sigma
    return Step(t, a=there.scale / here.scale + reach * slope, b=reach * (here.of_x0 - slope * alpha))
