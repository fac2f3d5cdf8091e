"""Updates of some elements, against torch and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run

from drun.mil.ops.scattering import scatter, scatter_along_axis_checked, scatter_checked, scatter_nd

RNG = np.random.default_rng(0)
X = RNG.random((4, 5, 3)).astype(np.float32) + 1
ROWS = np.array([3, 0, 3], np.int32)  # one of them twice
UPDATES = RNG.random((4, 3, 3)).astype(np.float32) + 1
ALONG = RNG.integers(0, 5, (4, 2, 3), dtype=np.int32)
PLACES = np.array([[0, 1], [3, 4], [0, 1]], np.int32)

#: mode -> that of torch
REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def t(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


def rows(mode: str) -> Case:
    """torch's has an index for each element."""

    def theirs(x: Array, updates: Array) -> torch.Tensor:
        places = t(ROWS.astype(np.int64)).reshape(1, -1, 1).expand(4, 3, 3)
        return t(x).scatter_reduce(1, places, t(updates), REDUCED[mode])

    return Case(
        f"scatter, {mode}",
        lambda mb, a, b: mb.scatter(data=a, indices=ROWS, updates=b, axis=1, mode=mode),
        [X, UPDATES],
        theirs,
        is_inferred=False,
    )


def elements(mode: str) -> Case:
    def theirs(x: Array, updates: Array) -> torch.Tensor:
        return t(x).scatter_reduce(1, t(ALONG.astype(np.int64)), t(updates), REDUCED[mode])

    return Case(
        f"scatter_along_axis, {mode}",
        lambda mb, a, b: mb.scatter_along_axis(data=a, indices=ALONG, updates=b, axis=1, mode=mode),
        [X, UPDATES[:, :2]],
        theirs,
        is_inferred=False,
    )


def place_by_place(x: Array, updates: Array) -> Array:
    out = x.copy()
    for place, update in zip(PLACES, updates, strict=True):
        out[tuple(place)] -= update
    return out


CASES = [
    *map(rows, REDUCED),
    *map(elements, REDUCED),
    Case(
        "scatter_nd",
        lambda mb, a, b: mb.scatter_nd(data=a, indices=PLACES, updates=b, mode="sub"),
        [X, UPDATES[0]],
        place_by_place,
        is_inferred=False,
    ),
    Case(
        "scatter, update",
        lambda mb, a, b: mb.scatter(data=a, indices=ROWS[:2], updates=b, axis=1, mode="update"),
        [X, UPDATES[:, :2]],
        lambda x, updates: np.stack([updates[:, 1], x[:, 1], x[:, 2], updates[:, 0], x[:, 4]], 1),
        is_inferred=False,
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("scattering"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_an_index_from_the_end_is_known_before_ios_17_alone() -> None:
    last = np.array([-1], np.int32)
    assert scatter(X[0], last, np.ones((1, 3), np.float32), mode="update")[4].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"an index from -1 to -1 is outside of 0\.\.4"):
        scatter_checked(X[0], last, np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"an index from 0 to 4 is outside of 0\.\.3"):
        scatter_along_axis_checked(X, ALONG, UPDATES[:, :2], axis=0)


def test_updates_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"updates got \(3,\), expected \(3, 3\)"):
        scatter_nd(X, PLACES, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="mode got 'swap', expected one of add, sub, mul, div, max, min, update"):
        scatter_nd(X, PLACES, UPDATES[0], "swap")
