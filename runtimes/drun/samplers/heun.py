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
        predictor = euler_step(process, t, following)
        table += [predictor, _corrector(process, predictor, following)]
    return [*table, Step(visited[-1], a=0.0, b=1.0)]


def _corrector(process: DiscreteProcess, predictor: Step, following: float) -> Step:
    """Replace the slope at t by the mean of the slopes at t and at `following`.

    x + k (eps_2 - eps_1), k = alpha' (sigma'/alpha' - sigma/alpha) / 2, with both eps written in the x0 at hand:
    eps_2 = (x - alpha' x0) / sigma', and eps_1 from the predictor's x = a x_t + b x0_prev.
    """
    alpha, sigma = float(process.alpha(predictor.t)), float(process.sigma(predictor.t))
    alpha_f, sigma_f = float(process.alpha(following)), float(process.sigma(following))
    k = alpha_f * (sigma_f / alpha_f - sigma / alpha) / 2
    return Step(
        following,
        a=1 + k * (1 / sigma_f - 1 / (predictor.a * sigma)),
        b=-k * alpha_f / sigma_f,
        d=(k * (predictor.b / predictor.a + alpha) / sigma,),
    )
