"""Euler's method on the probability-flow ODE, in x over t for flows, and in x/alpha over sigma/alpha for chains."""

from __future__ import annotations

from drun.diffusion.grids import ode_steps
from drun.diffusion.process import Process
from drun.diffusion.table import Step

CLIP_X0 = False


def steps(process: Process, num_steps: int, *, grid: str = "auto") -> list[Step]:
    """First order, one network call a step; the last step ends at the data.

    For diffusion Karras et al. 2022, algorithm 1 without lines 6 to 8; for flows the ODE samplers of SiT (Ma et al.
    2024) and REPA (Yu et al. 2025). Line 4 is d = of_x x + of_h h here, where h is the clean image D(x; sigma).
    """
    table = []
    for here, there in ode_steps(process, num_steps, grid):
        dt = here.reach(there)
        table.append(Step(here.t, a=there.scale / here.scale + dt * here.of_x, b=dt * here.of_h))  # line 5: x + dt d
    return table
