"""The scale from real to noise: where real images, noise and what lies between come out, for any number of samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from dbench.quality.frechet import frechet_distance
from dbench.quality.scale import between_sets, measure, partitions, set_size


def normal(num: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return shift + np.random.default_rng(seed).standard_normal((num, 6))


def test_partitions_share_nothing_and_leave_nothing_out() -> None:
    pairs = list(partitions(11, 4, 3))
    assert [(len(a), len(b)) for a, b in pairs] == [(4, 7)] * 3
    assert all(sorted([*a, *b]) == list(range(11)) for a, b in pairs)
    assert len({tuple(a) for a, _ in pairs}) == 3


def test_all_sets_are_as_large_as_the_smaller_allows() -> None:
    assert set_size(512, 60_000) == 512
    assert set_size(10_000, 1_797) == 898


@pytest.mark.parametrize("num_samples", [40, 400, 4000])
def test_fresh_real_images_are_at_the_floor_whatever_their_number(num_samples: int) -> None:
    """The bias of few samples is the floor's, too: without that, 40 samples would lie far from it."""
    real = normal(2000, 0)
    noise = normal(set_size(num_samples, 2000), 1, shift=5)
    found = measure(normal(num_samples, 2), real, noise, 8)
    assert np.median(found.position) == pytest.approx(0, abs=0.4)
    assert np.median(found.noise) == pytest.approx(6 * 25, rel=0.1)


def test_the_position_is_linear_between_floor_and_ceiling() -> None:
    real = normal(2000, 0)
    found = measure(normal(500, 1, shift=3), real, normal(500, 2, shift=6), 4)
    np.testing.assert_allclose(found.position, 25, atol=1)


def test_each_split_compares_three_sets_with_one() -> None:
    samples, real, noise = normal(10, 1), normal(50, 0), normal(10, 2)
    found = measure(samples, real, noise, 2)
    for i, (apart, rest) in enumerate(partitions(50, 10, 2)):
        assert found.real[i] == frechet_distance(real[apart], real[rest])
        assert found.noise[i] == frechet_distance(noise, real[rest])
        assert found.samples[i] == pytest.approx(frechet_distance(samples, real[rest]), rel=1e-9)


def test_halves_are_disjoint_and_compared_by_the_definition() -> None:
    """||mean - mean||^2 + Tr(S + S - 2 (S S)^(1/2)), Dowson & Landau 1982, in scipy's words."""
    real = normal(11, 0)
    generator = np.random.default_rng(0)
    for got in between_sets(real, 5, 3):
        order = generator.permutation(11)
        one, other = real[order[:5]], real[order[5:]]
        roots = linalg.sqrtm(np.cov(one.T) @ np.cov(other.T)).real
        shift = one.mean(0) - other.mean(0)
        expected = shift @ shift + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * roots)
        assert got == pytest.approx(expected, rel=1e-6)
