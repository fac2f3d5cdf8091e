"""Nearest neighbours in feature space: samples that lie closer to real images than those to each other are copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Distances in memory at once (32 MB)
BLOCK_VALUES = 2**22
#: Number of samples whose neighbours are searched: enough to know a share of them to one percent.
MAX_QUERIES = 4096
SEED = 0


@dataclass(frozen=True)
class Neighbours:
    """The k nearest vectors of each query, the nearest first."""

    indices: Indices  # (Q, k)
    distances: Features  # (Q, k), squared Euclidean


def nearest(queries: Features, real: Features, k: int, left_out: Indices | None = None) -> Neighbours:
    """The k vectors of `real` nearest to each query.

    Args:
        queries: (Q, D). real: (M, D), M at least k, plus one where some are left out.
        left_out: (Q,) for each query a row of `real` that is ignored, such as the query itself.
    """
    height = max(1, BLOCK_VALUES // len(real))
    found = []
    for first in range(0, len(queries), height):
        part = slice(first, first + height)
        distances = squared_distances(queries[part], real)
        if left_out is not None:
            distances[np.arange(len(distances)), left_out[part]] = np.inf
        found.append(_smallest(distances, k))
    return Neighbours(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def typical_distance(real: Features) -> float:
    """How far real images are from the nearest other one, in the median; squared.

    Half of fresh real images are nearer to their nearest one, all copies, and no noise.
    """
    chosen = some(len(real))
    return float(np.median(nearest(real[chosen], real, 1, left_out=chosen).distances))


def some(num: int, most: int = MAX_QUERIES) -> Indices:
    """All of 0..num - 1, or `most` of them at random, rising."""
    if num <= most:
        return np.arange(num)
    return np.sort(np.random.default_rng(SEED).choice(num, most, replace=False))


def squared_distances(a: Features, b: Features) -> Features:
    """(N, D), (M, D) -> (N, M), squared Euclidean."""
    squares: Features = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return squares.clip(0)


def _smallest(distances: Features, k: int) -> tuple[Indices, Features]:
    """(Q, M) -> places and values of the k smallest of each row, rising."""
    places = np.argpartition(distances, k - 1, axis=1)[:, :k] if k > 1 else distances.argmin(axis=1)[:, None]
    values = np.take_along_axis(distances, places, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)
