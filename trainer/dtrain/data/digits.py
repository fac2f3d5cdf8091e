"""Scikit-learn's handwritten digits: 1,797 real 8x8 scans that need no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIGITS = "digits"


def digits_8x8() -> NDArray[np.float64]:
    """The handwritten digits that come with scikit-learn: float64 (1797, 8, 8) in [0, 1], steps of 1/16."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images, dtype=np.float64) / 16


def digit_labels() -> NDArray[np.int64]:
    """The labels of the digits: int64 (1797,) in 0..9."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().target, dtype=np.int64)


def enlarged_digits() -> NDArray[np.uint8]:
    """The digits at twice their size: uint8 (1797, 16, 16)."""
    return np.rint(_enlarge(digits_8x8() * 255)).astype(np.uint8)


def _enlarge(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, S, S) -> (N, 2S, 2S), both in [0, 255]: bilinear, yet the mean of each 2x2 block is the old pixel.

    Where the detail in a block would leave the range it is scaled down: clipping would move the mean.
    """
    num, side, _ = images.shape
    at = (np.arange(2 * side) - 0.5) / 2
    weights = np.array([np.interp(at, np.arange(side), row) for row in np.eye(side)])
    smooth = (weights.T @ images @ weights).reshape(num, side, 2, side, 2)
    old = images[:, :, None, :, None]
    detail = smooth - smooth.mean(axis=(2, 4), keepdims=True)
    below, above = (peak.max(axis=(2, 4), keepdims=True).clip(1e-9) for peak in (-detail, detail))
    scale = np.minimum(1, np.minimum(old / below, (255 - old) / above))
    enlarged: NDArray[np.float64] = (old + scale * detail).reshape(num, 2 * side, 2 * side)
    return enlarged
