"""The error function, which numpy lacks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

#: From here on erf is 1 in float32.
END = 4.0
#: Of the polynomial; its error is below float32's resolution.
DEGREE = 15
#: Elements that are computed at once, so that they stay in the cache between the steps.
BLOCK = 1 << 15


def erf(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """2/sqrt(pi) times the integral of exp(-s^2) from 0 to x, to 4e-7.

    1 - t exp(P(t) - z^2) with z = |x| and t = 2/(2 + z), a form of erfc that is smooth up to infinity. P is a
    polynomial through Chebyshev's nodes.
    """
    source = np.ascontiguousarray(x, np.float32).reshape(-1)
    out = np.empty_like(source)
    coefficients, shift, scale = _polynomial()
    for start in range(0, len(source), BLOCK):
        part = source[start : start + BLOCK]
        z = np.minimum(np.abs(part), np.float32(END))
        t = np.float32(2) / (z + np.float32(2))
        u = t * scale
        u += shift
        total = np.full_like(u, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total *= u
            total += coefficient
        total -= z * z
        np.exp(total, out=total)
        total *= t
        np.subtract(np.float32(1), total, out=total)
        out[start : start + BLOCK] = np.copysign(total, part)
    return out.reshape(np.shape(x))


@cache
def _polynomial() -> tuple[NDArray[np.float32], np.float32, np.float32]:
    """The coefficients of P, the lowest power first, and how t is mapped to -1..1."""
    start = 2 / (2 + END)

    def target(t: NDArray[np.float64]) -> NDArray[np.float64]:
        found = [(2 / one - 2, one) for one in t.tolist()]
        return np.array([math.log(math.erfc(z) / one) + z * z for z, one in found])

    fitted = Chebyshev.interpolate(target, DEGREE, domain=[start, 1])
    coefficients = fitted.convert(kind=Polynomial, domain=[start, 1], window=[-1, 1]).coef
    scale = 2 / (1 - start)
    return coefficients.astype(np.float32), np.float32(-1 - scale * start), np.float32(scale)
