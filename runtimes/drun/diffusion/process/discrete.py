"""Chains of T noising steps, in float64: the only home of noise schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.process.ode import OdePoint, slope
from drun.errors import ConfigError

Array = NDArray[Any]
#: One time or an array of them
Times = float | list[float] | Array


def linear_betas(num_timesteps: int) -> Array:
    """beta from 1e-4 to 0.02 at T = 1000, scaled by 1000/T (Ho et al. 2020, section 4). (T,) float64."""
    scale = 1000 / num_timesteps
    return np.linspace(1e-4 * scale, 0.02 * scale, num_timesteps)


def scaled_linear_betas(num_timesteps: int) -> Array:
    """sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) (Rombach et al. 2022). (T,) float64."""
    return np.asarray(np.linspace(0.00085**0.5, 0.012**0.5, num_timesteps) ** 2)


def cosine_betas(num_timesteps: int) -> Array:
    """abar = cos^2((t/T + s)/(1 + s) pi/2), s = 0.008 (Nichol & Dhariwal 2021, eq. 17). (T,) float64.

    Clipped to [1e-4, 0.9999] as in the aerial-imagery article.
    """
    s = 0.008
    time = np.linspace(0, 1, num_timesteps + 1)
    alphas_cumprod: Array = np.cos((time + s) / (1 + s) * np.pi / 2) ** 2
    return np.asarray(np.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 1e-4, 0.9999))


def sigmoid_betas(num_timesteps: int) -> Array:
    """abar falls as a sigmoid from -3 to 3, temperature 1 (Jabri et al. 2022, algorithm 1). (T,) float64."""
    start, end = -3.0, 3.0
    time = np.linspace(0, 1, num_timesteps + 1)
    falling = 1 / (1 + np.exp(time * (end - start) + start))
    alphas_cumprod = (falling - falling[-1]) / (falling[0] - falling[-1])
    return np.asarray(np.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0, 0.999))


#: Published chains have 1,000 to 4,000; tables of many more would only fill the memory.
MAX_TIMESTEPS = 100_000

SCHEDULES = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
    "scaled_linear": scaled_linear_betas,
}


@dataclass(frozen=True)
class DiscreteProcess:
    """Variance-preserving chain of T steps: alpha^2 + sigma^2 = 1; time is the integer index 0..T-1.

    Between two indices the noise-to-signal ratio sigma/alpha is interpolated in its logarithm, so a sampler
    may ask for fractional times.

    Args:
        schedule: of the betas: `linear`, `cosine`, `sigmoid` or `scaled_linear`.
        num_timesteps: T, the length of the chain.

    Raises:
        ConfigError: unknown schedule, or one that has a beta outside (0, 1) at this T.
    """

    schedule: str = "linear"
    num_timesteps: int = 1000

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"unknown noise schedule '{self.schedule}': choose one of {', '.join(SCHEDULES)}")
        if not 1 <= self.num_timesteps <= MAX_TIMESTEPS:
            raise ConfigError(f"the number of timesteps got {self.num_timesteps}, expected 1 to {MAX_TIMESTEPS:,}")
        if not np.all((self.betas > 0) & (self.betas < 1)):
            raise ConfigError(
                f"schedule '{self.schedule}' with {self.num_timesteps} timesteps has a beta of "
                f"{self.betas.max():.4g}, expected all in (0, 1): use more timesteps"
            )

    @cached_property
    def betas(self) -> Array:
        """(T,) float64 in (0, 1)."""
        return SCHEDULES[self.schedule](self.num_timesteps)

    @cached_property
    def alphas_cumprod(self) -> Array:
        """abar_t = prod (1 - beta), (T,) float64, falling."""
        return np.cumprod(1 - self.betas)

    @cached_property
    def log_ratios(self) -> Array:
        """log(sigma/alpha) at t = 0..T-1, (T,) float64, rising."""
        return np.asarray(0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod)))

    def ratio(self, t: Times) -> Array:
        """Noise-to-signal ratio sigma/alpha (k-diffusion's sigma) at times t, same shape, float64."""
        return np.asarray(np.exp(np.interp(t, np.arange(self.num_timesteps), self.log_ratios)))

    def time(self, ratio: Times) -> Array:
        """The time at which sigma/alpha equals `ratio`: the inverse of `ratio`, clamped to [0, T-1]."""
        return np.asarray(np.interp(np.log(ratio), self.log_ratios, np.arange(self.num_timesteps)))

    def alpha(self, t: Times) -> Array:
        """Signal scale sqrt(abar_t), same shape as t, float64."""
        return np.asarray(1 / np.sqrt(1 + self.ratio(t) ** 2))

    def sigma(self, t: Times) -> Array:
        """Noise scale sqrt(1 - abar_t), same shape as t, float64."""
        ratio = self.ratio(t)
        return np.asarray(ratio / np.sqrt(1 + ratio**2))

    @property
    def noise_end(self) -> float:
        """The time of the noisiest state."""
        return self.num_timesteps - 1.0

    def most_steps(self, wanted: int) -> int:
        """As many steps as are wanted, or one for each timestep if there are fewer."""
        return min(wanted, self.num_timesteps)

    def velocity(self, t: Times) -> tuple[Array, Array]:
        """(A, B) of v = A x_0 + B eps = alpha eps - sigma x_0 (Salimans & Ho 2022, appendix D)."""
        return -self.sigma(t), self.alpha(t)

    def ode(self, t: float) -> OdePoint:
        """The probability-flow ODE in x/alpha over sigma/alpha, where its slope is eps (Karras et al. 2022)."""
        alpha, sigma = float(self.alpha(t)), float(self.sigma(t))
        return OdePoint(t, alpha, float(self.ratio(t)), *slope(alpha, sigma, of_x0=0.0, of_noise=1.0))

    def ode_end(self) -> OdePoint:
        """The data: sigma/alpha is 0, and the chain has no time for it."""
        return OdePoint(math.nan, 1.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "discrete", "schedule": self.schedule, "num_timesteps": self.num_timesteps}
