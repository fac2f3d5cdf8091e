"""CKNNA against its definition, written as loops over dense kernels, and against what it must not depend on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dbench.quality import alignment
from dbench.quality.alignment import cknna, mutual_knn
from drun.errors import ConfigError, DataError

Array = NDArray[np.float64]
Matrix = list[list[float]]


def features(num: int, size: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((num, size))


def related(num: int, noise: float, seed: int) -> tuple[Array, Array]:
    """The same vectors, in 5 dimensions and turned into 7, the latter with noise."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((num, 5))
    turn = np.linalg.qr(rng.standard_normal((7, 7)))[0][:5]
    return shared @ turn + noise * rng.standard_normal((num, 7)), shared


# ---- the definition, on plain lists ----------------------------------------------------------------------


def cosine_kernel(vectors: Array) -> Matrix:
    rows = vectors.tolist()
    norms = [math.sqrt(sum(v * v for v in row)) for row in rows]
    return [
        [sum(p * q for p, q in zip(x, y, strict=True)) / (n * m) for y, m in zip(rows, norms, strict=True)]
        for x, n in zip(rows, norms, strict=True)
    ]


def neighbours(kernel: Matrix, k: int) -> list[set[int]]:
    everyone = range(len(kernel))
    return [set(sorted(set(everyone) - {i}, key=lambda j: -kernel[i][j])[:k]) for i in everyone]


def hsic(a: Matrix, b: Matrix) -> float:
    """Unbiased HSIC of kernels with a zero diagonal: every sum in full."""
    m = len(a)
    everyone = range(m)
    trace = sum(a[i][j] * b[j][i] for i in everyone for j in everyone)
    middle = sum(a[i][j] * b[j][r] for i in everyone for j in everyone for r in everyone)
    total_a, total_b = sum(map(sum, a)), sum(map(sum, b))
    return (trace + total_a * total_b / ((m - 1) * (m - 2)) - 2 * middle / (m - 2)) / (m * (m - 3))


def similarity(a: Matrix, b: Matrix, k: int) -> float:
    near_a, near_b, everyone = neighbours(a, k), neighbours(b, k), range(len(a))
    masked_a = [[a[i][j] if j in near_a[i] & near_b[i] else 0.0 for j in everyone] for i in everyone]
    masked_b = [[b[i][j] if j in near_a[i] & near_b[i] else 0.0 for j in everyone] for i in everyone]
    return hsic(masked_a, masked_b)


def cknna_reference(a: Array, b: Array, k: int) -> float:
    kernel_a, kernel_b = cosine_kernel(a), cosine_kernel(b)
    own = similarity(kernel_a, kernel_a, k) * similarity(kernel_b, kernel_b, k)
    return similarity(kernel_a, kernel_b, k) / (math.sqrt(own) + 1e-6)


@pytest.mark.parametrize("block_values", [1, 60, 2**23], ids=["a row", "some rows", "all rows"])
@pytest.mark.parametrize("k", [1, 4, 10, 22])
def test_is_the_definition(k: int, block_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "BLOCK_VALUES", block_values)
    for seed in range(3):
        a, b = related(23, noise=1.0, seed=seed)
        expected = cknna_reference(a, b, k)
        assert abs(expected) > 1e-4
        assert cknna(a, b, k) == pytest.approx(expected, rel=1e-10)


def test_masks_are_not_symmetric() -> None:
    """The order matters a little, and in the definition's way."""
    a, b = related(23, noise=1.0, seed=0)
    forth, back = cknna(a, b, 4), cknna(b, a, 4)
    assert abs(forth - back) > 1e-4
    assert back == pytest.approx(cknna_reference(b, a, 4), rel=1e-10)


def test_all_neighbours_are_the_unbiased_cka() -> None:
    """HSIC as the U-statistic it estimates: the mean of K_ij (L_ij + L_qr - 2 L_iq) over four different images."""
    a, b = related(7, noise=1.0, seed=3)
    quadruples = list(itertools.permutations(range(7), 4))

    def statistic(p: Matrix, q: Matrix) -> float:
        return sum(p[i][j] * (q[i][j] + q[r][s] - 2 * q[i][r]) for i, j, r, s in quadruples) / len(quadruples)

    k, l = cosine_kernel(a), cosine_kernel(b)  # noqa: E741
    expected = statistic(k, l) / (math.sqrt(statistic(k, k) * statistic(l, l)) + 1e-6)
    assert cknna(a, b, k=6) == pytest.approx(expected, rel=1e-9)


# ---- what it says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 299])
def test_identical_features_are_aligned(k: int) -> None:
    a = features(300, 12, seed=0)
    assert cknna(a, a, k) == pytest.approx(1, abs=2e-3)  # the 1e-6 in the denominator shows where few entries are left
    assert mutual_knn(a, a, k) == 1


def test_rotation_and_the_length_of_rows_do_not_matter() -> None:
    a, b = related(200, noise=0.5, seed=1)
    turn = np.linalg.qr(features(7, 7, seed=2))[0]
    lengths = np.random.default_rng(3).uniform(0.1, 10, (200, 1))
    value = cknna(a, b)
    assert 0.05 < value < 0.95
    assert cknna(a @ turn, b) == pytest.approx(value, rel=1e-9)
    assert cknna(a, lengths * b) == pytest.approx(value, rel=1e-9)
    assert mutual_knn(lengths * a @ turn, b) == mutual_knn(a, b)


def test_the_order_of_images_is_shared() -> None:
    a, b = related(200, noise=0.1, seed=1)
    shuffled = np.random.default_rng(0).permutation(200)
    assert cknna(a[shuffled], b[shuffled]) == pytest.approx(cknna(a, b), rel=1e-9)
    assert abs(cknna(a, b[shuffled])) < 0.1 < cknna(a, b)


def test_unrelated_features_are_not_aligned() -> None:
    values = [cknna(features(400, 16, seed), features(400, 16, seed + 100)) for seed in range(5)]
    shares = [mutual_knn(features(400, 16, seed), features(400, 16, seed + 100)) for seed in range(5)]
    assert np.abs(values).max() < 0.05
    assert np.mean(shares) == pytest.approx(10 / 399, rel=0.2)


def test_noise_lowers_it() -> None:
    values = [cknna(*related(300, noise, seed=4)) for noise in (0, 0.3, 1, 3, 10)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.99
    assert abs(values[-1]) < 0.1


def test_k_is_the_scale_that_is_looked_at() -> None:
    """Groups of 12 that agree within but lie elsewhere in the other space: aligned for k = 11, not for all."""
    rng = np.random.default_rng(5)
    within = 0.3 * rng.standard_normal((300, 40))
    centres = [np.repeat(rng.standard_normal((25, 40)), 12, axis=0) for _ in range(2)]
    local = [cknna(centres[0] + within, centres[1] + within, k) for k in (11, 60, 299)]
    assert local[0] > 0.9
    assert local == sorted(local, reverse=True)
    # The other way round: the same centres, and nothing in common within the groups.
    other = 0.3 * rng.standard_normal((300, 40))
    assert cknna(centres[0] + within, centres[0] + other, 2) < 0.5 < cknna(centres[0] + within, centres[0] + other, 11)


def test_mutual_neighbours_are_counted() -> None:
    a, b = related(23, noise=1.0, seed=0)
    pairs = zip(neighbours(cosine_kernel(a), 4), neighbours(cosine_kernel(b), 4), strict=True)
    expected = sum(len(p & q) for p, q in pairs) / (23 * 4)
    assert 0 < expected < 1
    assert mutual_knn(a, b, 4) == pytest.approx(expected, rel=1e-12)


def test_half_precision_inputs_are_computed_in_double() -> None:
    a, b = (array.astype(np.float16) for array in related(50, noise=0.5, seed=6))
    assert cknna(a, b) == cknna(a.astype(np.float64), b.astype(np.float64))


# ---- refused ---------------------------------------------------------------------------------------------


def with_zero_row() -> Array:
    a = features(20, 3, seed=0)
    a[7] = 0
    return a


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((20, 3)), np.ones((19, 3)), r"\(20, 3\) and \(19, 3\) cannot be aligned"),
        (np.ones((20, 3)), np.ones((20, 3, 1)), "cannot be aligned: expected"),
        (np.ones(20), np.ones((20, 3)), "cannot be aligned: expected"),
        (np.ones((3, 2)), np.ones((3, 2)), "at least 4 images, got 3"),
        (np.ones((20, 3)), np.full((20, 3), np.inf), "NaN or infinity"),
        (with_zero_row(), np.ones((20, 3)), "features of image 7 are all zero"),
    ],
)
def test_bad_features_are_refused(a: Array, b: Array, message: str) -> None:
    for measure in (cknna, mutual_knn):
        with pytest.raises(DataError, match=message):
            measure(a, b)


@pytest.mark.parametrize("k", [0, -1, 20])
def test_k_must_leave_a_neighbour(k: int) -> None:
    a = features(20, 3, seed=0)
    for measure in (cknna, mutual_knn):
        with pytest.raises(ConfigError, match=rf"k got {k}, expected 1..19"):
            measure(a, a, k)


def test_a_negative_hsic_has_no_root() -> None:
    """Of 4 images: its estimate of a kernel with itself falls below zero."""
    few = np.array([[-1.0, -2.0], [3.0, 1.0], [-3.0, 2.0], [0.0, 2.0]])
    kernel = cosine_kernel(few)
    assert similarity(kernel, kernel, 2) < 0
    for pair in ((few, few), (few, features(4, 3, seed=0)), (features(4, 3, seed=0), few)):
        with pytest.raises(DataError, match=r"HSIC with itself is -.* over 4 images.*use more images"):
            cknna(*pair, k=2)
