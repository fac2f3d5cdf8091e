"""Heun's second-order method on the probability-flow ODE: two network calls a step, one on the last."""

from __future__ import annotations

from itertools import pairwise

from drun.diffusion.grids import times
from drun.diffusion.process import Process
from drun.diffusion.process.ode import OdePoint
from drun.diffusion.samplers.euler import euler_step
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process: Process, num_steps: int, *, grid: str = "auto") -> list[Step]:
    """2 num_steps - 1 network calls (Karras et al. 2022, algorithm 1; for flows as in SiT and REPA)."""
    visited = times(process, num_steps, grid, usual="karras")
    points = [process.ode(t) for t in visited]
    table = []
    for (t, here), (following, there) in pairwise(zip(visited, points, strict=True)):
        predictor = euler_step(process, t, here, there)
        table += [predictor, _corrector(process, t, following, here, there, predictor)]
    return [*table, euler_step(process, visited[-1], points[-1], process.ode_end())]


def _corrector(
    process: Process, t: float, following: float, here: OdePoint, there: OdePoint, predictor: Step
) -> Step:
    """Replace the slope at t by the mean of the slopes at t and at `following`.

    x += reach/2 (slope_2 - slope_1), each slope of_x0 x0 + of_noise eps. The x that slope_1 was computed from is
    gone, but the predictor tells it: (x - b x0_1) / a.
    """
    half = there.scale * (there.clock - here.clock) / 2
    first, second = here.of_noise / float(process.sigma(t)), there.of_noise / float(process.sigma(following))
    old_x = first / predictor.a
    old_x0 = here.of_x0 - first * float(process.alpha(t)) - old_x * predictor.b
    return Step(
        following,
        a=1 + half * (second - old_x),
        b=half * (there.of_x0 - second * float(process.alpha(following))),
        d=(-half * old_x0,),
        step_t=t,
    )
