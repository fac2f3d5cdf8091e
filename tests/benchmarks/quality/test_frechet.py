"""The distance against closed forms for Gaussians whose mean and covariance are exact."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dbench.quality.frechet import covariance, frechet_distance, trace_sqrt_product
from drun.errors import DataError

Array = NDArray[np.float64]


def with_moments(mean: Array, factor: Array, num: int, seed: int) -> Array:
    """Vectors whose sample mean is `mean` and sample covariance `factor @ factor.T`, up to rounding."""
    white = np.random.default_rng(seed).standard_normal((num, len(factor)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return mean + white @ factor.T


def rotation(size: int) -> Array:
    return np.linalg.qr(np.random.default_rng(5).standard_normal((size, size)))[0]


@pytest.mark.parametrize("turn", [np.eye(4), rotation(4)], ids=["diagonal", "rotated"])
def test_commuting_covariances(turn: Array) -> None:
    """||m||^2 + sum (s_a - s_b)^2, in any basis."""
    mean, std_a, std_b = np.array([1.0, -2, 0, 0.5]), np.array([1.0, 2, 3, 0.1]), np.array([2.0, 2, 0.5, 4])
    a = with_moments(np.zeros(4), turn * std_a, 50, seed=0)
    b = with_moments(mean, turn * std_b, 80, seed=1)
    expected = (mean**2).sum() + ((std_a - std_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_covariances_that_do_not_commute() -> None:
    """In two dimensions Tr (AB)^(1/2) = (Tr AB + 2 (det AB)^(1/2))^(1/2)."""
    a, b = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, -0.5], [-0.5, 4]])
    assert np.abs(a @ b - b @ a).max() > 0.1
    expected = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert trace_sqrt_product(a, b) == pytest.approx(expected, rel=1e-12)


def test_deficient_rank() -> None:
    """Fewer vectors than dimensions, or pixels that never change: no root of a singular matrix is asked for."""
    rng = np.random.default_rng(2)
    few = rng.standard_normal((5, 30))
    shift = np.full(30, 0.5)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(few, few + shift) == pytest.approx(30 * 0.25, rel=1e-12)
    constant = np.ones((7, 30))
    assert frechet_distance(constant, constant) == 0
    spread = np.trace(np.cov(few, rowvar=False)) + ((few.mean(axis=0) - 1) ** 2).sum()
    assert frechet_distance(few, constant) == pytest.approx(spread, rel=1e-9)


def test_one_dimension() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])
    assert frechet_distance(a, b) == pytest.approx(6**2 + (np.sqrt(2) - np.sqrt(8)) ** 2)


def test_covariance_divides_by_n_minus_one() -> None:
    assert covariance(np.array([[0.0, 0], [2, 2]])).tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5)), "cannot be compared"),
        (np.zeros((3, 4)), np.zeros((3, 4, 1)), "cannot be compared"),
        (np.zeros((1, 4)), np.zeros((3, 4)), "at least 2"),
        (np.full((3, 4), np.nan), np.zeros((3, 4)), "NaN"),
    ],
)
def test_refused(a: Array, b: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        frechet_distance(a, b)
