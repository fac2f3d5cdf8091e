"""Continuous interpolants x_t = alpha(t) x_0 + sigma(t) eps of flow matching, in float64.

Two conventions of time are in use: SiT's networks are told t = 0 for noise and 1 for data (Ma et al. 2024), REPA's
t = 1 for noise and 0 for data (Yu et al. 2025). `FlowProcess` is the only bridge between them. All other code asks it
for the depth in noise, which is 0 at the data and 1 at the noise in both conventions, for the time at a depth, and for
the slope by time or by depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.process.ode import OdePoint, slope
from drun.errors import ConfigError

Array = NDArray[Any]
Times = float | list[float] | Array
#: One depth in noise or an array of them
Depth = TypeVar("Depth", float, NDArray[np.float64])

#: Ends of the variance-preserving path's beta(depth) (Song et al. 2021, appendix C).
BETA_MIN, BETA_MAX = 0.1, 20.0


class Path(NamedTuple):
    """Functions of the depth in noise, 0..1, elementwise on float64 arrays; `depth` inverts sigma/alpha."""

    alpha: Callable[[Array], Array]
    sigma: Callable[[Array], Array]
    alpha_slope: Callable[[Array], Array]
    sigma_slope: Callable[[Array], Array]
    depth: Callable[[Array], Array]


def _vp_log_alpha(depth: Array) -> Array:
    return -0.25 * (BETA_MAX - BETA_MIN) * depth**2 - 0.5 * BETA_MIN * depth


def _vp_alpha_slope(depth: Array) -> Array:
    return np.asarray(-0.5 * ((BETA_MAX - BETA_MIN) * depth + BETA_MIN) * np.exp(_vp_log_alpha(depth)))


def _vp_sigma(depth: Array) -> Array:
    return np.asarray(np.sqrt(-np.expm1(2 * _vp_log_alpha(depth))))


def _vp_depth(ratio: Array) -> Array:
    fall = 0.5 * np.log1p(ratio**2)  # -log alpha
    spread = BETA_MAX - BETA_MIN
    return np.asarray((np.sqrt(BETA_MIN**2 + 4 * spread * fall) - BETA_MIN) / spread)


PATHS = {
    "linear": Path(
        alpha=lambda depth: 1 - depth,
        sigma=lambda depth: depth,
        alpha_slope=lambda depth: -np.ones_like(depth),
        sigma_slope=lambda depth: np.ones_like(depth),
        depth=lambda ratio: 1 / (1 + 1 / ratio),
    ),
    "cosine": Path(
        alpha=lambda depth: np.cos(np.pi / 2 * depth),
        sigma=lambda depth: np.sin(np.pi / 2 * depth),
        alpha_slope=lambda depth: -np.pi / 2 * np.sin(np.pi / 2 * depth),
        sigma_slope=lambda depth: np.pi / 2 * np.cos(np.pi / 2 * depth),
        depth=lambda ratio: 2 / np.pi * np.arctan(ratio),
    ),
    "vp": Path(
        alpha=lambda depth: np.exp(_vp_log_alpha(depth)),
        sigma=_vp_sigma,
        alpha_slope=_vp_alpha_slope,
        sigma_slope=lambda depth: -np.exp(_vp_log_alpha(depth)) * _vp_alpha_slope(depth) / _vp_sigma(depth),
        depth=_vp_depth,
    ),
}


@dataclass(frozen=True)
class FlowProcess:
    """An interpolant between data and noise; time is a real number in [0, 1].

    Args:
        path: `linear` (alpha = 1 - depth, sigma = depth), `cosine` (SiT's GVP) or `vp`.
        noise_time: the time at which x is noise: 1 as in REPA, 0 as in SiT.
        margin: depths nearer than this to either end are neither trained nor sampled from, as in SiT. A network that
            predicts noise or score says nothing about the data where alpha = 0 (SiT keeps 1e-3), and the velocity of
            `vp` is infinite at the data (1e-5). At its noise `vp` has no margin: nothing is infinite there.

    Raises:
        ConfigError: unknown path, or a value out of range.
    """

    path: str = "linear"
    noise_time: int = 1
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ConfigError(f"unknown path '{self.path}': choose one of {', '.join(PATHS)}")
        if self.noise_time not in (0, 1):
            raise ConfigError(f"noise_time got {self.noise_time}, expected 1 (as REPA) or 0 (as SiT)")
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"margin got {self.margin}, expected 0 up to, not including, 0.5")

    @property
    def time_convention(self) -> str:
        """The convention of the network's time: `repa` (1 at the noise, 0 at the data) or `sit` (0 at the noise)."""
        return "repa" if self.noise_time else "sit"

    @property
    def noise_end(self) -> float:
        """The time of the noisiest state that a network is asked about."""
        return self.at_depth(self.deepest)

    def most_steps(self, wanted: int) -> int:
        """As many steps as are wanted: time is continuous."""
        return wanted

    @property
    def ends_in_noise(self) -> bool:
        """Whether alpha = 0 at depth 1; `vp` keeps a share of the data, 0.0066."""
        return self.path != "vp"

    @property
    def deepest(self) -> float:
        """The greatest depth in noise that is trained and sampled from, 0..1."""
        return 1 - self.margin if self.ends_in_noise else 1.0

    def depth(self, t: Times) -> Array:
        """The depth in noise at time t: 0 at the data, 1 at the noise; same shape, float64."""
        t = np.asarray(t, np.float64)
        return t if self.noise_time else 1 - t

    def at_depth(self, depth: Depth) -> Depth:
        """The model time at a depth in noise, 0..1; same shape and dtype."""
        return depth if self.noise_time else 1 - depth

    def alpha(self, t: Times) -> Array:
        """Signal scale, same shape as t, float64."""
        return np.asarray(PATHS[self.path].alpha(self.depth(t)))

    def sigma(self, t: Times) -> Array:
        """Noise scale, same shape as t, float64."""
        return np.asarray(PATHS[self.path].sigma(self.depth(t)))

    def ratio(self, t: Times) -> Array:
        """Noise-to-signal ratio sigma/alpha at times t, same shape, float64; infinite where alpha = 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.sigma(t) / self.alpha(t))

    def time(self, ratio: Times) -> Array:
        """The time at which sigma/alpha equals `ratio` > 0: the inverse of `ratio`."""
        depth = PATHS[self.path].depth(np.asarray(ratio, np.float64))
        return np.asarray(self.at_depth(depth))

    def velocity(self, t: Times) -> tuple[Array, Array]:
        """(A, B) of the velocity dx/dt = A x_0 + B eps along the model's own time (Lipman et al. 2023)."""
        sign, (of_x0, of_noise) = 1.0 if self.noise_time else -1.0, self.slope_by_depth(t)
        return np.asarray(sign * of_x0), np.asarray(sign * of_noise)

    def slope_by_depth(self, t: Times) -> tuple[Array, Array]:
        """(A, B) of dx/ddepth = A x_0 + B eps at times t: alpha' and sigma' by the depth, each of t's shape, float64.

        It is the velocity in REPA's convention and its opposite in SiT's.
        """
        depth, path = self.depth(t), PATHS[self.path]
        return np.asarray(path.alpha_slope(depth)), np.asarray(path.sigma_slope(depth))

    def ode(self, t: float) -> OdePoint:
        """The probability-flow ODE in x over the model's time; its slope is written for the clean image, sigma > 0."""
        of_x0, of_noise = self.velocity(t)
        return OdePoint(t, 1.0, t, *slope(float(self.alpha(t)), float(self.sigma(t)), float(of_x0), float(of_noise)))

    def ode_by_velocity(self, t: float) -> OdePoint:
        """The same ODE, its slope written for the velocity, which is dx/dt itself and so exists at the data, too."""
        return OdePoint(t, 1.0, t, of_x=0.0, of_h=1.0, estimate="velocity")

    def ode_end(self) -> OdePoint:
        """The point at the data, of which only the clock matters."""
        t = self.at_depth(0.0)
        return OdePoint(t, 1.0, t)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "flow", "path": self.path, "noise_time": self.noise_time, "margin": self.margin}
