"""Heun's second-order method on the probability-flow ODE: two network calls a step."""

from __future__ import annotations

from drun.diffusion.grids import ode_steps
from drun.diffusion.process import Process
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process: Process, num_steps: int, *, grid: str = "auto", last_step: str = "auto") -> list[Step]:
    """Karras et al. 2022, algorithm 1: 2 num_steps - 1 network calls, or 2 num_steps if the last step is corrected.

    Line 4 is d = of_x x + of_h h here, where h is the clean image D(x; sigma). Line 8 adds dt/2 (d' - d) to the x of
    line 5, x' = a x + b h. The walk no longer has the x of line 4 by then, so d is written by x': x = (x' - b h) / a.

    Args:
        last_step: `euler`: the step to the data is not corrected (line 6; REPA: Yu et al. 2025). `heun`: it is
            corrected as all others, for flows at even times, as SiT samples (Ma et al. 2024): see `grids.ode_steps`.
            `auto`: `heun` for a flow in SiT's convention of time, else `euler`.

    Raises:
        ConfigError: an unknown choice or grid, or a last step that the process or the grid does not have.
    """
    table = []
    for here, there in ode_steps(process, num_steps, grid, last_step):
        dt = here.reach(there)
        a, b = there.scale / here.scale + dt * here.of_x, dt * here.of_h
        table.append(Step(here.t, a, b, estimate=here.estimate))  # line 5: x + dt d
        if there.has_slope:  # line 6
            of_x, of_h = here.of_x / a, here.of_h - here.of_x / a * b  # d by x'
            a, b, d = 1 + dt / 2 * (there.of_x - of_x), dt / 2 * there.of_h, (-dt / 2 * of_h,)
            table.append(Step(there.t, a, b, d=d, step_t=here.t, estimate=there.estimate))  # line 8
    return table
