"""The few array operations that numpy and torch spell differently; everything else is `+`, `*` and indexing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[Any], Tensor)
else:
    #: A numpy array or a torch tensor, on any device: the arrays of one walk are all of one kind.
    Array = TypeVar("Array")

#: What multiplies arrays; see `number`.
Coefficient = Any
#: (N, C, H, W) on the host: what a sampler carries from noise to images
State = NDArray[np.float32] | NDArray[np.float64]
#: (N,) on the host
Labels = NDArray[np.int64]


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """An uninitialised array with the type, dtype and device of `like`."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_empty(shape)


def on_host(x: NDArray[Any] | Tensor) -> State:
    """x as a numpy array, which may share memory with x."""
    return x if isinstance(x, np.ndarray) else x.cpu().numpy()


def number(value: float, like: NDArray[Any] | Tensor) -> Coefficient:
    """A coefficient for arrays like `like`.

    For numpy it is an array without axes: a product of a small image with it takes half the time of a product with a
    Python float.
    """
    return np.asarray(value, like.dtype) if isinstance(like, np.ndarray) else value


def scale(x: Array, weight: Coefficient, out: Array) -> None:
    """out = weight x, computed in the dtype of `out`. weight: as `number` makes it."""
    if not isinstance(out, np.ndarray):
        out.copy_(x).mul_(weight)
    elif x.dtype is out.dtype:
        np.multiply(x, weight, out)  # naming the dtype takes longer than to multiply a small image
    else:
        np.multiply(x, weight, out=out, dtype=out.dtype)


def interpolated_std(v: Array, log_min: float, log_max: float) -> Array:
    """exp((f log_max + (1 - f) log_min) / 2) with f = (v + 1) / 2, as a new array (Nichol & Dhariwal 2021, eq. 15)."""
    half_log = v * (0.25 * (log_max - log_min)) + 0.25 * (log_max + log_min)
    return np.exp(half_log) if isinstance(v, np.ndarray) else half_log.exp()


def total(x: NDArray[Any] | Tensor) -> float:
    """The sum of all numbers; it is not finite if one of them is not finite."""
    return float(np.add.reduce(x, axis=None) if isinstance(x, np.ndarray) else x.sum())


def clip(x: NDArray[Any] | Tensor, low: Coefficient, high: Coefficient) -> None:
    """Bound x to [low, high] in place."""
    if isinstance(x, np.ndarray):
        np.maximum(x, low, x)  # a third of the time of np.clip on a small image
        np.minimum(x, high, x)
    else:
        x.clamp_(low, high)


def magnitude_quantile(x: Array, quantile: float) -> Array:
    """The quantile of |x| of each image, (N, 1, 1, 1), linear interpolation. x: (N, C, H, W)."""
    flat = abs(x).reshape(x.shape[0], -1)
    bounds = np.quantile(flat, quantile, axis=1) if isinstance(x, np.ndarray) else flat.quantile(quantile, dim=1)
    return bounds.reshape(-1, 1, 1, 1)  # type: ignore[no-any-return]
