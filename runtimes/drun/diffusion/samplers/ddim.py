"""DDIM (Song et al. 2021, eq. 12): deterministic at eta = 0, ancestral at eta = 1."""

from __future__ import annotations

from drun.diffusion.grids import times
from drun.diffusion.process import Process
from drun.diffusion.table import Step
from drun.errors import ConfigError

CLIP_X0 = True


def steps(process: Process, num_steps: int, *, grid: str = "auto", eta: float = 0.0) -> list[Step]:
    """x_prev = alpha_prev x0 + sqrt(sigma_prev^2 - s^2) eps + s z, with eps taken from the (clipped) x0.

    Args:
        eta: s = eta times the posterior's standard deviation (eq. 16 there), 0..1.

    Raises:
        ConfigError: eta outside [0, 1], or an unknown grid.
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta got {eta}, expected a share of the ancestral noise from 0 to 1")
    visited = times(process, num_steps, grid, usual="trailing")
    table = []
    for t, previous in zip(visited, [*visited[1:], None], strict=True):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        if previous is None:
            table.append(Step(t, a=0.0, b=1.0))
            continue
        alpha_previous, sigma_previous = float(process.alpha(previous)), float(process.sigma(previous))
        s = eta * sigma_previous / sigma * (1 - (alpha / alpha_previous) ** 2) ** 0.5
        a = max(sigma_previous**2 - s**2, 0.0) ** 0.5 / sigma
        table.append(Step(t, a=a, b=alpha_previous - alpha * a, c=s))
    return table
