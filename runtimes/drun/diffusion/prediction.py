"""The meaning of a network's output, and its conversion into the clean image or the noise.

Every prediction is a combination m = A x_0 + B eps. Together with x = alpha x_0 + sigma eps this is a 2x2
linear system, so each conversion is linear in (x, m) and one solution serves them all.
"""

from __future__ import annotations

import math
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

#: A network may predict this in as many channels again: how to interpolate the variance of an
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


def conversion(prediction: str, wanted: str, process: Process, t: float) -> tuple[float, float]:
    """(p, q) such that p x + q m is the `wanted` prediction, from a network whose output m is another prediction.

    Solves w = C x_0 + D eps = p (alpha x_0 + sigma eps) + q (A x_0 + B eps) for p and q.

    Raises:
        ConfigError: at time t the network's prediction says nothing about the wanted one.
    """
    if prediction == wanted:
        return 0.0, 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        (a, b), (c, d) = (components(name, process, t) for name in (prediction, wanted))
        alpha, sigma = process.alpha(t), process.sigma(t)
        determinant = alpha * b - sigma * a
        p, q = float((c * b - d * a) / determinant), float((alpha * d - sigma * c) / determinant)
    if not (math.isfinite(p) and math.isfinite(q)):
        raise ConfigError(_nothing_said(prediction, wanted, process, t))
    return p, q


def x0_coefficients(prediction: str, process: Process, t: float) -> tuple[float, float]:
    """(p, q) such that the clean image is x_0 = p x + q m. Raises ConfigError as `conversion` does."""
    return conversion(prediction, "x0", process, t)


def _nothing_said(prediction: str, wanted: str, process: Process, t: float) -> str:
    state = "the data" if float(process.sigma(t)) == 0 else "pure noise"
    about = "the velocity" if wanted == "velocity" else "the image"
    other = ", or set last_step=euler where the sampler has it" if wanted == "velocity" else ""
    return (
        f"at time {t:g} x is {state}, and a network that predicts {prediction} says nothing about {about}: "
        f"give the process a margin such as 0.001{other}"
    )
