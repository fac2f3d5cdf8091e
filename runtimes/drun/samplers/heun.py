"""Heun's second-order method on the probability-flow ODE: two network calls a step, one on the last."""

from __future__ import annotations

from itertools import pairwise

from drun.grids import times
from drun.process import DiscreteProcess
from drun.samplers.euler import euler_step
from drun.table import Step

CLIP_X0 = False


def steps(process: DiscreteProcess, num_steps: int, *, grid: str = "karras") -> list[Step]:
    """Karras et al. 2022, algorithm 1: 2 num_steps - 1 network calls."""
    visited = times(process, num_steps, grid)
    table = []
    for t, following in pairwise(visited):
        table += [euler_step(process, t, following), _corrector(process, t, following)]
    return [*table, Step(visited[-1], a=0.0, b=1.0)]


def _corrector(process: DiscreteProcess, t: float, following: float) -> Step:
    """Replace the slope at t by the mean of the slopes at t and at `following`.

    x + k (eps_2 - eps_1), k = alpha' (sigma'/alpha' - sigma/alpha) / 2. The predictor moved along constant x0_prev
    and eps_1, so both are seen from here: eps_1 = (x - alpha' x0_prev) / sigma', eps_2 = (x - alpha' x0) / sigma'.
    """
    alpha, sigma = float(process.alpha(following)), float(process.sigma(following))
    k = alpha * (sigma / alpha - float(process.ratio(t))) / 2
    return Step(following, a=1.0, b=-k * alpha / sigma, d=(k * alpha / sigma,))
