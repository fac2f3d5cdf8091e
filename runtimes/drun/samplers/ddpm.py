"""Ancestral sampling of the reverse chain (Ho et al. 2020, algorithm 2), on any subset of its steps."""

from __future__ import annotations

from drun.errors import ConfigError
from drun.grids import times
from drun.process import DiscreteProcess
from drun.table import Step

CLIP_X0 = True


def steps(
    process: DiscreteProcess, num_steps: int, *, grid: str = "respaced", variance: str = "fixed_small"
) -> list[Step]:
    """The posterior q(x_prev | x_t, x0) (Ho et al. 2020, eq. 6-7) of the chain that visits only the grid's times.

    Args:
        variance: `fixed_small` (the posterior's) or `fixed_large` (the respaced beta); section 3.2 there.

    Raises:
        ConfigError: unknown variance or grid.
    """
    if variance not in ("fixed_small", "fixed_large"):
        raise ConfigError(f"unknown variance '{variance}': choose fixed_small or fixed_large")
    visited = times(process, num_steps, grid)
    table = []
    for t, previous in zip(visited, [*visited[1:], None], strict=True):
        abar = float(process.alpha(t)) ** 2
        abar_previous = 1.0 if previous is None else float(process.alpha(previous)) ** 2
        alpha = abar / abar_previous
        beta = 1 - alpha
        posterior_variance = beta * (1 - abar_previous) / (1 - abar)
        variance_t = posterior_variance if variance == "fixed_small" else beta
        table.append(
            Step(
                t,
                a=alpha**0.5 * (1 - abar_previous) / (1 - abar),
                b=abar_previous**0.5 * beta / (1 - abar),
                c=0.0 if previous is None else variance_t**0.5,
            )
        )
    return table
