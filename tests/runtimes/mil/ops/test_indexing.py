"""Slices, lookups and orders, against coremltools' own value inference and torch."""

from __future__ import annotations

import numpy as np
import pytest
from mil_programs import Array, Case, check, run

from drun.mil.ops.indexing import argsort, gather, gather_checked, topk

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 6)).astype(np.float32)
SQUARE = RNG.standard_normal((2, 4, 5)).astype(np.float32)
ROWS = np.array([[3, 0], [1, 1]], np.int32)
ALONG = RNG.integers(0, 5, (4, 5, 6), dtype=np.int32)
TIES = np.array([[1.0, 3.0, 3.0, 0.0, 1.0]], np.float32)

CASES = [
    Case(
        "slice_by_index", lambda mb, a: mb.slice_by_index(x=a, begin=[1, 0, -5], end=[4, 4, -1], stride=[2, 1, 2]), [X]
    ),
    Case(
        "slice_by_index with masks",
        lambda mb, a: mb.slice_by_index(
            x=a,
            begin=[1, 2, 3],
            end=[2, 3, 4],
            begin_mask=[True, False, False],
            end_mask=[False, True, False],
            squeeze_mask=[False, False, True],
        ),
        [X],
    ),
    Case(
        "slice_by_index backwards",
        lambda mb, a: mb.slice_by_index(
            x=a, begin=[0, 0, 0], end=[0, 0, 0], stride=[1, -1, 1], begin_mask=[True] * 3, end_mask=[True] * 3
        ),
        [X],
    ),
    Case("slice_by_size", lambda mb, a: mb.slice_by_size(x=a, begin=[1, 2, 0], size=[2, -1, 3]), [X]),
    Case(
        "slice_update",
        lambda mb, a, b: mb.slice_update(x=a, update=b, begin=[0, 1, 0], end=[4, 3, 6]),
        [X, X[:, :2] * 9],
        lambda x, u: np.concatenate([x[:, :1], u, x[:, 3:]], 1),
    ),
    Case("gather", lambda mb, a: mb.gather(x=a, indices=ROWS, axis=1), [X], lambda x: np.take(x, ROWS, 1)),
    Case(
        "gather in batches",
        lambda mb, a: mb.gather(x=a, indices=ROWS, axis=1, batch_dims=1),
        [X[:2]],
        lambda x: np.stack([x[i][ROWS[i]] for i in range(2)]),
    ),
    Case(
        "gather_along_axis",
        lambda mb, a, b: mb.gather_along_axis(x=a, indices=b, axis=1),
        [X, ALONG],
        lambda x, i: np.take_along_axis(x, i, 1),
    ),
    Case("gather_nd", lambda mb, a: mb.gather_nd(x=a, indices=ROWS), [X], lambda x: x[ROWS[:, 0], ROWS[:, 1]]),
    Case(
        "topk",
        lambda mb, a: mb.topk(x=a, k=2, axis=1),
        [X],
        lambda x: (-np.sort(-x, 1)[:, :2], np.argsort(-x, 1)[:, :2]),
    ),
    Case(
        "topk, ascending",
        lambda mb, a: mb.topk(x=a, k=3, axis=-1, ascending=True),
        [X],
        lambda x: (np.sort(x, -1)[..., :3], np.argsort(x, -1)[..., :3]),
    ),
    Case(
        "topk of equal ones",
        lambda mb, a: mb.topk(x=a, k=3, axis=-1),
        [TIES],
        lambda x: (np.array([[3.0, 3.0, 1.0]]), np.array([[1, 2, 0]])),
    ),
    Case("argsort", lambda mb, a: mb.argsort(x=a, axis=1, ascending=True), [X]),
    Case("argsort, descending", lambda mb, a: mb.argsort(x=a), [X], lambda x: np.argsort(-x, -1)),
    Case("cumsum", lambda mb, a: mb.cumsum(x=a, axis=1), [X], lambda x: np.cumsum(x, 1)),
    Case(
        "cumsum, exclusive",
        lambda mb, a: mb.cumsum(x=a, axis=2, exclusive=True),
        [X],
        lambda x: np.cumsum(x, 2) - x,
        is_inferred=False,
    ),
    Case(
        "cumsum, backwards",
        lambda mb, a: mb.cumsum(x=a, axis=0, reverse=True),
        [X],
        lambda x: np.cumsum(x[::-1], 0)[::-1],
    ),
    Case(
        "one_hot",
        lambda mb, a: mb.one_hot(indices=a, one_hot_vector_size=5, axis=1),
        [ROWS],
        lambda i: np.moveaxis(np.eye(5)[i], -1, 1),
    ),
    Case(
        "one_hot with values",
        lambda mb, a: mb.one_hot(indices=a, one_hot_vector_size=4, on_value=np.float32(2.5), off_value=np.float32(-1)),
        [ROWS],
        lambda i: 3.5 * np.eye(4)[i] - 1,
    ),
    Case("fill", lambda mb, a: mb.add(x=a, y=mb.fill(shape=[4, 5, 6], value=np.float32(2))), [X], lambda x: x + 2),
    Case("fill_like", lambda mb, a: mb.fill_like(ref_tensor=a, value=np.float32(3)), [X], lambda x: np.full_like(x, 3)),
    Case(
        "range_1d",
        lambda mb, a: mb.range_1d(start=np.float32(1), end=np.float32(4), step=np.float32(0.5)),
        [X],
        lambda x: np.arange(1, 4, 0.5),
    ),
    Case(
        "band_part", lambda mb, a: mb.band_part(x=a, lower=1, upper=0), [SQUARE], lambda x: np.tril(x) - np.tril(x, -2)
    ),
    Case("band_part, all above", lambda mb, a: mb.band_part(x=a, lower=0, upper=-1), [SQUARE], lambda x: np.triu(x)),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("indexing"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_finds_what_coremltools_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_an_index_outside_is_an_error() -> None:
    """A negative one, too, from iOS 17 on, where it is undefined."""
    assert gather(X, np.array([-1])).shape == (1, 5, 6)
    for outside in ([4], [-5]):
        with pytest.raises(ValueError, match=r"an index from .* is outside of"):
            gather(X, np.array(outside))
    with pytest.raises(ValueError, match=r"an index from -1 to 0 is outside of 0\.\.3"):
        gather_checked(X, np.array([-1, 0]))


@pytest.mark.parametrize("k", [5, 10**12, -2])
def test_more_than_there_are_is_refused(k: int) -> None:
    """Before a list of them is made."""
    with pytest.raises(ValueError, match=rf"topk got {k}, expected at most the 4 elements"):
        topk(np.zeros(4, np.float32), k)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_the_least_integer_is_the_last_of_a_descent(dtype: type) -> None:
    """Its negative is itself."""
    x = np.array([[3, np.iinfo(dtype).min, 7, np.iinfo(dtype).max]], dtype)
    assert topk(x, 4)[0].tolist() == [[np.iinfo(dtype).max, 7, 3, np.iinfo(dtype).min]]
    assert topk(x, 4)[1].tolist() == argsort(x).tolist() == [[3, 2, 0, 1]]
