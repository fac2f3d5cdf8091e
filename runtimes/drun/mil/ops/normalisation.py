"""Norms."""

from __future__ import annotations

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Ints, axes_of, check_size, float32, operation, per_place


@operation()
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
    *,
    numerics: Numerics,
) -> Array:
    """With the statistics of training, a channel of axis 1 each."""
    scale = numerics.step(float32(1 / np.sqrt(variance + np.float32(epsilon))))
    if gamma is not None:
        scale = numerics.step(scale * gamma)
    shift = numerics.step(mean * scale)
    shift = -shift if beta is None else numerics.step(beta - shift)
    return numerics.step(x * per_place(scale, x, 1)) + per_place(shift, x, 1)


@operation()
def layer_norm(
    x: Array,
    axes: Ints | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
    *,
    numerics: Numerics,
) -> Array:
    """Ba et al. 2016, with the biased variance; gamma and beta have the shape of the axes."""
    along = axes_of(axes, x.ndim)
    form = [side if axis in along else 1 for axis, side in enumerate(x.shape)]
    out = _standardised(x, along, epsilon, numerics)
    if gamma is not None:
        out = numerics.step(out * gamma.reshape(form))
    return out if beta is None else out + beta.reshape(form)


@operation()
def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
    *,
    numerics: Numerics,
) -> Array:
    """Over the axes of space, each channel of each image by itself."""
    out = _standardised(x, tuple(range(2, x.ndim)), epsilon, numerics)
    if gamma is not None:
        out = numerics.step(out * per_place(gamma, x, 1))
    return out if beta is None else out + per_place(beta, x, 1)


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float, numerics: Numerics) -> Array:
    centred = numerics.step(x - numerics.mean(x, axes))
    variance = numerics.mean(numerics.step(np.square(centred)), axes)
    centred *= numerics.step(1 / np.sqrt(variance + np.float32(epsilon)))
    return numerics.step(centred)


@operation()
def l2_norm(x: Array, epsilon: float = 1e-6, *, numerics: Numerics) -> Array:
    """Over the last three axes."""
    total = numerics.sum(numerics.step(np.square(x)), tuple(range(max(0, x.ndim - 3), x.ndim)))
    return x / numerics.step(np.sqrt(total + np.float32(epsilon)))


@operation()
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, numerics: Numerics
) -> Array:
    """Krizhevsky et al. 2012, section 3.3, over neighbouring channels."""
    check_size(x.size, size)
    low = size // 2
    squares = np.pad(numerics.step(np.square(x)), [(0, 0), (low, size - 1 - low), *[(0, 0)] * (x.ndim - 2)])
    channels = x.shape[1]
    total = np.zeros_like(x)
    for start in range(size):
        total = numerics.step(total + squares[:, start : start + channels])
    bottom = numerics.step(np.float32(k) + numerics.step(np.float32(alpha / size) * total))
    return x / numerics.step(bottom ** np.float32(beta))
