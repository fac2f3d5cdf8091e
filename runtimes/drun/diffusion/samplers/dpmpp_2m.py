"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order with one network call a step."""

from __future__ import annotations

import math
from itertools import pairwise

from drun.diffusion.grids import times
from drun.diffusion.process import Process
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process: Process, num_steps: int, *, grid: str = "auto") -> list[Step]:
    """Multistep extrapolation of x0 in lambda = log(alpha/sigma); the first and the last step are first order."""
    visited = times(process, num_steps, grid, usual="karras")
    lambdas = [-math.log(float(process.ratio(t))) for t in visited]
    table = []
    for i, (t, following) in enumerate(pairwise(visited)):
        h = lambdas[i + 1] - lambdas[i]
        gain = -float(process.alpha(following)) * math.expm1(-h)
        a = float(process.sigma(following) / process.sigma(t))
        if i == 0:
            table.append(Step(t, a=a, b=gain))
        else:
            slope = h / (2 * (lambdas[i] - lambdas[i - 1]))  # 1/(2r) there
            table.append(Step(t, a=a, b=gain * (1 + slope), d=(-gain * slope,)))
    return [*table, Step(visited[-1], a=0.0, b=1.0)]
