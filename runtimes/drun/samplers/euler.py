"""Euler's method on the probability-flow ODE dx/dsigma = eps, in x/alpha over sigma/alpha."""

from __future__ import annotations

from itertools import pairwise

from drun.grids import times
from drun.process import DiscreteProcess
from drun.table import Step

CLIP_X0 = False


def steps(process: DiscreteProcess, num_steps: int, *, grid: str = "karras") -> list[Step]:
    """First order (Karras et al. 2022, algorithm 1 without the correction); the last step lands on x0."""
    visited = times(process, num_steps, grid)
    table = [euler_step(process, t, following) for t, following in pairwise(visited)]
    return [*table, Step(visited[-1], a=0.0, b=1.0)]


def euler_step(process: DiscreteProcess, t: float, following: float) -> Step:
    """From time t to the less noisy `following` along the tangent: eps = (x - alpha x0) / sigma stays."""
    a = float(process.sigma(following) / process.sigma(t))
    return Step(t, a=a, b=float(process.alpha(following) - process.alpha(t) * a))
