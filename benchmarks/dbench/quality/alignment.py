"""Measures whether two networks find the same images alike, by their neighbours in both feature spaces.

Only the k nearest neighbours of an image enter, so kernels are kept as lists of N k entries: 10,000 images need
megabytes where N x N matrices would need gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drun.errors import ConfigError, DataError

Features = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Similarities in memory at once (64 MB)
BLOCK_VALUES = 2**23


@dataclass(frozen=True)
class Entries:
    """The entries of an N x N kernel under a mask: entry (key // N, key % N) has the value at the same place."""

    keys: Indices  # (E,), rising
    values: Features  # (E,)


def cknna(a: Features, b: Features, k: int = 10) -> float:
    """Centred kernel nearest-neighbour alignment (Huh et al. 2024, "The Platonic Representation Hypothesis").

    K and L are the cosine similarities within `a` and within `b`. M keeps (i, j) where j != i is among the k nearest
    of i in both; it is not made symmetric. With sim(K, L) = HSIC(M K, M L), unbiased, and M drawn anew for each pair,

        CKNNA = sim(K, L) / (sqrt(sim(K, K) sim(L, L)) + 1e-6),

    as in the authors' code without its clamping of outliers. k = N - 1 is the unbiased CKA.

    Args:
        a: (N, D1), b: (N, D2): features of the same N images in the same order, computed with in float64. No row
            may be zero.
        k: nearest neighbours, 1..N-1. REPA (Yu et al. 2024) takes 10 among 10,000 images.

    Returns:
        About 1 for the same neighbours with the same similarities, about 0 for unrelated features, at times
        slightly negative; cknna(b, a) differs a little, for the masks are not symmetric. sim is of the order of k/N
        times the squared similarity of neighbours: where that is small, the 1e-6 keeps even equal features below 1.

    Raises:
        DataError: shapes that do not fit, fewer than 4 images, values that are not finite, a row of zeros, or a
            kernel whose HSIC with itself is negative and has no root, which happens with 4 or 5 images.
        ConfigError: k outside 1..N-1.
    """
    _check(a, b, k)
    num = len(a)
    near_a, near_b = _nearest(a, k), _nearest(b, k)
    own_a, own_b = _hsic(near_a, near_a, num), _hsic(near_b, near_b, num)
    if min(own_a, own_b) < 0:
        raise DataError(
            f"CKNNA is not defined: a kernel's HSIC with itself is {min(own_a, own_b):.3g} over {num} images, expected "
            "at least 0: use more images"
        )
    return float(_hsic(*_common(near_a, near_b), num) / (np.sqrt(own_a * own_b) + 1e-6))


def mutual_knn(a: Features, b: Features, k: int = 10) -> float:
    """The share of an image's k nearest in `a` that are so in `b`, in the mean (Huh et al. 2024), in [0, 1].

    Arguments and errors are those of `cknna`. Nearness is cosine similarity; unrelated features give k/(N-1).
    """
    _check(a, b, k)
    common, _ = _common(_nearest(a, k), _nearest(b, k))
    return len(common.keys) / (len(a) * k)


def _nearest(features: Features, k: int) -> Entries:
    """(N, D) -> the N k entries of the cosine kernel in each row's k largest, the diagonal left out."""
    exact = features.astype(np.float64)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    num = len(unit)
    height = max(1, BLOCK_VALUES // num)
    keys, values = [], []
    for first in range(0, num, height):
        kernel = unit[first : first + height] @ unit.T
        row = np.arange(len(kernel))[:, None]
        kernel[row, first + row] = -np.inf
        nearest = np.sort(np.argpartition(kernel, -k, axis=1)[:, -k:], axis=1)
        keys.append(((first + row) * num + nearest).ravel())
        values.append(kernel[row, nearest].ravel())
    return Entries(np.concatenate(keys), np.concatenate(values))


def _common(a: Entries, b: Entries) -> tuple[Entries, Entries]:
    """Both kernels under the product of their masks."""
    keys, in_a, in_b = np.intersect1d(a.keys, b.keys, assume_unique=True, return_indices=True)
    return Entries(keys, a.values[in_a]), Entries(keys, b.values[in_b])


def _hsic(a: Entries, b: Entries, num: int) -> float:
    """Unbiased HSIC (Song et al. 2012) of two masked symmetric kernels with the same keys, none on the diagonal.

    [sum_ij A_ij B_ji + sum(A) sum(B) / ((N-1)(N-2)) - 2 1'A B 1 / (N-2)] / (N (N-3))
    """
    row, column = a.keys // num, a.keys % num
    # A_ij B_ji needs both places masked in, and there B_ji = B_ij.
    both = np.isin(column * num + row, a.keys)
    trace = a.values[both] @ b.values[both]
    sums = a.values.sum() * b.values.sum()
    middle = np.bincount(column, a.values, num) @ np.bincount(row, b.values, num)
    return float((trace + sums / ((num - 1) * (num - 2)) - 2 * middle / (num - 2)) / (num * (num - 3)))


def _check(a: Features, b: Features, k: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise DataError(
            f"features of shapes {a.shape} and {b.shape} cannot be aligned: expected (N, D1) and (N, D2), "
            "of the same images in the same order"
        )
    if len(a) < 4:
        raise DataError(f"the unbiased HSIC needs at least 4 images, got {len(a)}: use more images")
    if not 1 <= k < len(a):
        raise ConfigError(f"k got {k}, expected 1..{len(a) - 1} neighbours among {len(a)} images: change k")
    for features in (a, b):
        if not np.isfinite(features).all():
            raise DataError("the features hold NaN or infinity: check the images and the network")
        if not features.any(axis=1).all():
            zero = int(np.argmin(features.any(axis=1)))
            raise DataError(f"the features of image {zero} are all zero, expected a direction: leave the image out")
