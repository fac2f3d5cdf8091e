"""Reductions, against coremltools' own value inference and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run

from drun.mil.numerics import Numerics
from drun.mil.ops import find

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
I = np.arange(24, dtype=np.int32).reshape(2, 3, 4)  # noqa: E741

NAMES = ("sum", "max", "min", "prod", "l1_norm", "l2_norm", "sum_square", "log_sum_exp", "mean")


def of(name: str, x: Array = X, kind: str = "", **keywords: Any) -> Case:
    return Case(f"{name}{kind}", lambda mb, a: getattr(mb, name)(x=a, **keywords), [x])


CASES = [
    *(of(f"reduce_{name}", kind=" of two axes", axes=[0, 2]) for name in NAMES),
    *(of(f"reduce_{name}", kind=" of all", keep_dims=True) for name in NAMES),
    of("reduce_log_sum", POSITIVE, axes=[1]),
    of("reduce_sum", I, " of integers", axes=[-1]),
    of("reduce_max", I, " of integers", axes=[0], keep_dims=True),
    Case("reduce_argmax", lambda mb, a: mb.reduce_argmax(x=a, axis=1), [X], lambda x: x.argmax(1)),
    Case(
        "reduce_argmin",
        lambda mb, a: mb.reduce_argmin(x=a, axis=-1, keep_dims=True),
        [X],
        lambda x: x.argmin(-1, keepdims=True),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("reduction"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_coremltools_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_sums_in_fp16_lose_small_numbers() -> None:
    x = np.full((1, 5000), 1.0, np.float32)
    assert Numerics(False).sum(x, (1,)).item() == 5000
    ramp = np.array([[2048.0, 1.0, 1.0, 1.0]], np.float32)
    assert Numerics(False).sum(ramp, (1,)).item() == 2051
    assert Numerics(True).sum(ramp, (1,)).item() != 2051


def test_a_sum_of_exponentials_that_are_all_zero_is_no_nan() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 0], [-np.inf, 1]], np.float32)
    with np.errstate(divide="ignore"):
        found = find("reduce_log_sum_exp", 8).compute(x, (1,), numerics=Numerics(False))
    np.testing.assert_array_equal(found, torch.logsumexp(torch.from_numpy(x), 1))
