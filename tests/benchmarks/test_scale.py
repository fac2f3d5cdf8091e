"""The scale from real to noise: where real images, noise and what lies between come out, for any number of samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dbench.core import timing
from dbench.quality.frechet import frechet_distance
from dbench.quality.scale import between_halves, measure, partitions, set_size
from dtrain.data.digits import digits_8x8

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


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
    expected = 100 * (found.samples - found.real) / (found.noise - found.real)
    np.testing.assert_array_equal(found.position, expected)


def test_each_split_compares_three_sets_with_one() -> None:
    samples, real, noise = normal(10, 1), normal(50, 0), normal(10, 2)
    found = measure(samples, real, noise, 2)
    for i, (apart, rest) in enumerate(partitions(50, 10, 2)):
        assert found.real[i] == frechet_distance(real[apart], real[rest])
        assert found.noise[i] == frechet_distance(noise, real[rest])
        assert found.samples[i] == pytest.approx(frechet_distance(samples, real[rest]), rel=1e-9)


def test_the_halves_of_the_digits_are_those_of_the_committed_results() -> None:
    halves = timing.spread(between_halves(digits_8x8().reshape(-1, 64), 20))
    (path,) = (RESULTS / "cpu-2-cores" / "digits-repa").glob("repa*.json")
    rows = json.loads(path.read_text())["rows"]
    row = next(row for row in rows if row["name"] == "one half of the real digits to the other")
    assert [halves.median, halves.p10, halves.p90] == pytest.approx([row["value"], row["p10"], row["p90"]], rel=1e-12)
