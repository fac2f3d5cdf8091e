"""Nearest neighbours against all distances at once, and what is called a copy."""

from __future__ import annotations

import numpy as np
import pytest

from dbench.quality import neighbours
from dbench.quality.neighbours import nearest, some, squared_distances, typical_distance


def test_distances_between_all_pairs() -> None:
    a, b = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [0, 1], [3, 4]])
    np.testing.assert_allclose(squared_distances(a, b), [[0, 1, 25], [25, 18, 0]])


@pytest.mark.parametrize("block", [1, 37, 2**22])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_blocks_find_what_sorting_all_distances_finds(block: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    queries, real = rng.standard_normal((9, 5)), rng.standard_normal((30, 5))
    everything = ((queries[:, None] - real) ** 2).sum(axis=2)
    found = nearest(queries, real, k)
    assert found.indices.tolist() == np.argsort(everything, axis=1)[:, :k].tolist()
    np.testing.assert_allclose(found.distances, np.sort(everything, axis=1)[:, :k], rtol=1e-9)


def test_what_is_left_out_is_not_found() -> None:
    real = np.array([[0.0], [1], [3], [7]])
    found = nearest(real, real, 1, left_out=np.arange(4))
    assert found.indices[:, 0].tolist() == [1, 0, 1, 2]
    assert found.distances[:, 0].tolist() == [1, 1, 4, 16]
    assert typical_distance(real) == 2.5


def test_copies_are_nearer_than_real_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    real, fresh = rng.standard_normal((300, 8)), rng.standard_normal((300, 8))

    def share(samples: np.ndarray) -> float:
        return float((nearest(samples, real, 1).distances < typical_distance(real)).mean())

    assert share(real[:50]) == 1
    assert share(10 + real[:50]) == 0
    assert share(fresh) == pytest.approx(0.5, abs=0.15)


def test_some_are_all_or_as_many_as_asked_for() -> None:
    assert some(5, 5).tolist() == [0, 1, 2, 3, 4]
    chosen = some(1000, 10)
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == some(1000, 10).tolist()
