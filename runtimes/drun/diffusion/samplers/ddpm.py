"""Ancestral sampling of the reverse chain (Ho et al. 2020, algorithm 2), on any subset of its steps."""

from __future__ import annotations

import math

from drun.diffusion.grids import times
from drun.diffusion.prediction import LEARNED_RANGE
from drun.diffusion.process import Process
from drun.diffusion.table import LogVariance, Step
from drun.errors import ConfigError

CLIP_X0 = True

VARIANCES = ("fixed_small", "fixed_large", LEARNED_RANGE)


def steps(process: Process, num_steps: int, *, grid: str = "auto", variance: str = "fixed_small") -> list[Step]:
    """The posterior q(x_prev | x_t, x0) of the chain that visits only the grid's times.

    x_t given x_prev has scale r = alpha / alpha_prev and variance v = sigma^2 - r^2 sigma_prev^2; so the posterior
    has variance v sigma_prev^2 / sigma^2 (Kingma et al. 2021, appendix A; Ho et al. 2020, eq. 6-7, where
    alpha^2 + sigma^2 = 1).

    Args:
        variance: `fixed_small` (the posterior's), `fixed_large` (v; Ho et al. 2020, section 3.2), or `learned_range`
            (between both, as the network says: Nichol & Dhariwal 2021, eq. 15).

    Raises:
        ConfigError: unknown variance or grid.
    """
    if variance not in VARIANCES:
        raise ConfigError(f"unknown variance '{variance}': choose one of {', '.join(VARIANCES)}")
    visited = times(process, num_steps, grid, usual="respaced")
    table: list[Step] = []
    for t, previous in zip(visited, [*visited[1:], None], strict=True):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        if previous is None:
            table.append(Step(t, a=0.0, b=1.0))
            continue
        alpha_previous, sigma_previous = float(process.alpha(previous)), float(process.sigma(previous))
        r = alpha / alpha_previous
        large = sigma**2 - (r * sigma_previous) ** 2
        small = large * (sigma_previous / sigma) ** 2
        table.append(
            Step(
                t,
                a=r * (sigma_previous / sigma) ** 2,
                b=alpha_previous * large / sigma**2,
                c={"fixed_small": small**0.5, "fixed_large": large**0.5}.get(variance, 0.0),
                log_variance=_bounds(small, large) if variance == LEARNED_RANGE else None,
            )
        )
    return table


def _bounds(small: float, large: float) -> LogVariance:
    return math.log(small), math.log(large)
