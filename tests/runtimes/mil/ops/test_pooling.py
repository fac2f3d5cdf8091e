"""Pools, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.mil.numerics import Numerics
from drun.mil.ops.pooling import avg_pool, l2_pool, max_pool

X = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)


def t(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


def ceiling(kind: str, kernel: int, stride: int, pad: int, **keywords: bool) -> Case:
    """A pool whose last windows reach beyond the input."""
    plain = {"kernel_sizes": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": True}
    padding = {"pad_type": "custom", "pad": [pad] * 4} if pad else {"pad_type": "valid"}
    excluded = keywords.get("exclude_padding_from_average", False)
    theirs = {"count_include_pad": not excluded} if kind == "avg_pool" else {}
    return Case(
        f"{kind} of {kernel} by {stride} with {pad}, by ceiling, {excluded}",
        lambda mb, a: getattr(mb, kind)(x=a, **plain, **padding, **keywords),
        [X - 9],
        lambda x: getattr(F, f"{kind}2d")(t(x), kernel, stride, pad, ceil_mode=True, **theirs),
    )


CASES = [
    Case(
        "max_pool",
        lambda mb, a: mb.max_pool(x=a, kernel_sizes=[2, 3], strides=[2, 1], pad_type="valid"),
        [X],
        lambda x: F.max_pool2d(t(x), (2, 3), (2, 1)),
    ),
    Case(
        "max_pool with padding",
        lambda mb, a: mb.max_pool(
            x=a - np.float32(0) if isinstance(a, np.ndarray) else a,
            kernel_sizes=[3, 3],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
        ),
        [X - 9],
        lambda x: F.max_pool2d(t(x), 3, 2, padding=1),
    ),
    Case(
        "avg_pool",
        lambda mb, a: mb.avg_pool(x=a, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1] * 4),
        [X],
        lambda x: F.avg_pool2d(t(x), 3, 2, padding=1),
    ),
    Case(
        "avg_pool without its padding",
        lambda mb, a: mb.avg_pool(
            x=a, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1] * 4, exclude_padding_from_average=True
        ),
        [X],
        lambda x: F.avg_pool2d(t(x), 3, 2, padding=1, count_include_pad=False),
    ),
    Case(
        "l2_pool",
        lambda mb, a: mb.l2_pool(x=a, kernel_sizes=[2, 2], pad_type="valid"),
        [X],
        lambda x: F.lp_pool2d(t(x), 2.0, 2, 1),
    ),
    *(
        ceiling(kind, *sizes)
        for kind in ("max_pool", "avg_pool")
        for sizes in ((3, 2, 0), (2, 2, 0), (3, 2, 1), (2, 3, 1), (5, 3, 2))
    ),
    *(ceiling("avg_pool", *sizes, exclude_padding_from_average=True) for sizes in ((3, 2, 0), (3, 2, 1), (5, 3, 2))),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("pooling"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_a_window_that_begins_beyond_the_input_is_none() -> None:
    found = max_pool(X[..., :6, :6], (2, 2), (3, 3), ceil_mode=True)
    np.testing.assert_array_equal(found, F.max_pool2d(t(X[..., :6, :6]), 2, 3, ceil_mode=True))


@pytest.mark.parametrize(
    ("pad_type", "pad", "ceil_mode"),
    [("custom", (0, 1, 0, 1), True), ("same", None, True), ("custom", (2, 2, 0, 0), False)],
)
def test_padding_that_is_not_documented_is_refused(pad_type: str, pad: tuple[int, ...] | None, ceil_mode: bool) -> None:
    with pytest.raises(ValueError, match=r"got the padding .*, expected "):
        max_pool(X, (2, 2), (2, 2), pad_type, pad, ceil_mode)


def test_sums_in_fp16_lose_small_numbers() -> None:
    x = np.full((1, 1, 64, 64), 1.0, np.float32)
    for pool, expected in ((avg_pool, 0.5), (l2_pool, np.sqrt(2048))):
        assert pool(x, (64, 64), numerics=Numerics(False)).item() == (1 if pool is avg_pool else 64)
        assert pool(x, (64, 64), numerics=Numerics(True)).item() == np.float32(expected)
