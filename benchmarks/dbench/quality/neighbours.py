"""Nearest neighbours in feature space: samples that lie closer to real images than those to each other are copies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def share_nearer_than_real(samples: Features, real: Features) -> float:
    """The share of samples whose nearest real image is nearer than real images are to theirs, in the median.

    samples: (N, D), real: (M, D). About 0.5 for fresh real images, 1 for copies, 0 for noise.
    """
    among_real = squared_distances(real, real)
    np.fill_diagonal(among_real, np.inf)
    typical = np.median(among_real.min(axis=1))
    return float(np.mean(squared_distances(samples, real).min(axis=1) < typical))


def squared_distances(a: Features, b: Features) -> Features:
    """(N, D), (M, D) -> (N, M), squared Euclidean."""
    squares: Features = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return squares.clip(0)
