"""What a network's output means, and its conversion into the clean image or the noise.

Every prediction is a combination m = A x_0 + B eps. Together with x = alpha x_0 + sigma eps this is a 2x2
linear system, so each conversion is linear in (x, m) and one solution serves them all.
"""

from __future__ import annotations

from collections.abc import Callable

from drun.errors import ConfigError

#: prediction -> (alpha, sigma) -> (A, B) in m = A x_0 + B eps
COMPONENTS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "noise":    lambda alpha, sigma: (0.0, 1.0),
    "x0":       lambda alpha, sigma: (1.0, 0.0),
    "velocity": lambda alpha, sigma: (-sigma, alpha),      # Salimans & Ho 2022, appendix D
    "score":    lambda alpha, sigma: (0.0, -1.0 / sigma),  # Song et al. 2021: -eps/sigma
}


def components(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """(A, B) such that the network's target is m = A x_0 + B eps.

    Raises:
        ConfigError: unknown prediction.
    """
    if prediction not in COMPONENTS:
        raise ConfigError(f"unknown prediction '{prediction}': choose one of {', '.join(COMPONENTS)}")
    return COMPONENTS[prediction](alpha, sigma)


def x0_coefficients(prediction: str, alpha: float, sigma: float) -> tuple[float, float]:
    """(p, q) such that the clean image is x_0 = p x + q m."""
    a, b = components(prediction, alpha, sigma)
    determinant = alpha * b - sigma * a
    return b / determinant, -sigma / determinant
