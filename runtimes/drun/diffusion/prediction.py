"""What a network's output means, and its conversion into the clean image or the noise.

Every prediction is a combination m = A x_0 + B eps. Together with x = alpha x_0 + sigma eps this is a 2x2
linear system, so each conversion is linear in (x, m) and one solution serves them all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drun.diffusion.process import Process
from drun.diffusion.process.discrete import Array, Times
from drun.errors import ConfigError

#: prediction -> (process, t) -> (A, B) in m = A x_0 + B eps
COMPONENTS: dict[str, Callable[[Process, Times], tuple[Array | float, Array | float]]] = {
    "noise":    lambda process, t: (0.0, 1.0),
    "x0":       lambda process, t: (1.0, 0.0),
    "velocity": lambda process, t: process.velocity(t),
    "score":    lambda process, t: (0.0, -1 / process.sigma(t)),  # Song et al. 2021: -eps/sigma
}  # fmt: skip

#: What a network may add to its prediction, in as many channels again: how to interpolate the variance of an
#: ancestral step between its bounds (Nichol & Dhariwal 2021, eq. 15).
LEARNED_RANGE = "learned_range"


def components(prediction: str, process: Process, t: Times) -> tuple[Array, Array]:
    """(A, B) such that the network's target is m = A x_0 + B eps, each of the shape of t, float64.

    Raises:
        ConfigError: unknown prediction.
    """
    if prediction not in COMPONENTS:
        raise ConfigError(f"unknown prediction '{prediction}': choose one of {', '.join(COMPONENTS)}")
    a, b = COMPONENTS[prediction](process, t)
    shape = np.shape(t)
    return np.broadcast_to(np.asarray(a, np.float64), shape), np.broadcast_to(np.asarray(b, np.float64), shape)


def x0_coefficients(prediction: str, process: Process, t: float) -> tuple[float, float]:
    """(p, q) such that the clean image is x_0 = p x + q m.

    Raises:
        ConfigError: at time t the prediction says nothing about the clean image.
    """
    a, b = (float(of) for of in components(prediction, process, t))
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    determinant = alpha * b - sigma * a
    if determinant == 0:
        raise ConfigError(
            f"at time {t:g} x is pure noise, and a network that predicts {prediction} says nothing about the image: "
            "give the process a margin such as 0.001"
        )
    return b / determinant, -sigma / determinant
