"""Fréchet distance between two sets of features, each taken for a Gaussian (Dowson & Landau 1982; FID: Heusel 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError

Features = NDArray[np.float64]


def frechet_distance(a: Features, b: Features) -> float:
    """||mean_a - mean_b||^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)); S are covariances with N - 1.

    a: (N, D), b: (M, D) float64. The unit is the features' squared.

    Raises:
        DataError: fewer than two vectors, another number of dimensions, or values that are not finite.
    """
    _check(a, b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = covariance(a), covariance(b)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_sqrt_product(cov_a, cov_b))


def covariance(features: Features) -> Features:
    """(N, D) -> (D, D)."""
    return np.atleast_2d(np.cov(features, rowvar=False, ddof=1))


def trace_sqrt_product(a: Features, b: Features) -> float:
    """Tr((A B)^(1/2)) of symmetric positive semi-definite matrices, also of deficient rank.

    A B has the eigenvalues of A^(1/2) B A^(1/2), which is symmetric: no root of a general matrix is needed.
    """
    values, vectors = np.linalg.eigh(a)
    root = (vectors * _roots(values)) @ vectors.T
    return float(_roots(np.linalg.eigvalsh(root @ b @ root)).sum())


def _roots(eigenvalues: Features) -> Features:
    """Square roots; what rounding left of zeros is zero again, for the root of 1e-16 is 1e-8."""
    floor = len(eigenvalues) * np.finfo(np.float64).eps * np.abs(eigenvalues).max()
    roots: Features = np.sqrt(np.where(eigenvalues > floor, eigenvalues, 0.0))
    return roots


def _check(a: Features, b: Features) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"features of shapes {a.shape} and {b.shape} cannot be compared: expected (N, D) and (M, D)")
    if min(len(a), len(b)) < 2:
        raise DataError(f"a covariance needs at least 2 images, got {min(len(a), len(b))}: draw more samples")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("the features hold NaN or infinity: check the images")
