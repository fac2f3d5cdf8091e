"""Norms, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.mil.numerics import Numerics
from drun.mil.ops.normalisation import batch_norm, layer_norm, local_response_norm

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 5, 6)).astype(np.float32) * 3 + 1
MEAN, GAMMA, BETA = (RNG.standard_normal(4).astype(np.float32) for _ in range(3))
VARIANCE = np.abs(MEAN) + np.float32(0.5)
WIDE_GAMMA, WIDE_BETA = (RNG.standard_normal((5, 6)).astype(np.float32) for _ in range(2))


def t(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


CASES = [
    Case(
        "batch_norm",
        lambda mb, a: mb.batch_norm(x=a, mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA),
        [X],
        lambda x: F.batch_norm(t(x), t(MEAN), t(VARIANCE), t(GAMMA), t(BETA), eps=1e-5),
    ),
    Case(
        "batch_norm, plain",
        lambda mb, a: mb.batch_norm(x=a, mean=MEAN, variance=VARIANCE, epsilon=np.float32(0.1)),
        [X],
        lambda x: F.batch_norm(t(x), t(MEAN), t(VARIANCE), eps=0.1),
    ),
    Case(
        "layer_norm",
        lambda mb, a: mb.layer_norm(x=a, axes=[2, 3], gamma=WIDE_GAMMA, beta=WIDE_BETA),
        [X],
        lambda x: F.layer_norm(t(x), (5, 6), t(WIDE_GAMMA), t(WIDE_BETA)),
    ),
    Case(
        "layer_norm of an axis within",
        lambda mb, a: mb.layer_norm(x=a, axes=[1], gamma=GAMMA, beta=BETA, epsilon=np.float32(1e-3)),
        [X],
        lambda x: F.layer_norm(t(x).movedim(1, -1), (4,), t(GAMMA), t(BETA), 1e-3).movedim(-1, 1),
    ),
    Case(
        "instance_norm",
        lambda mb, a: mb.instance_norm(x=a, gamma=GAMMA, beta=BETA),
        [X],
        lambda x: F.instance_norm(t(x), weight=t(GAMMA), bias=t(BETA)),
    ),
    Case(
        "l2_norm",
        lambda mb, a: mb.l2_norm(x=a),
        [X],
        lambda x: t(x) / (t(x).square().sum((1, 2, 3), keepdim=True) + 1e-6).sqrt(),
    ),
    Case(
        "local_response_norm",
        lambda mb, a: mb.local_response_norm(x=a, size=3, alpha=np.float32(0.1)),
        [X],
        lambda x: F.local_response_norm(t(x), 3, alpha=0.1, beta=0.75, k=1.0),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("normalisation"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_squares_overflow_in_strict16_alone() -> None:
    x = np.array([[400.0, -400.0, 400.0, -400.0]], np.float32)
    wide, strict = (layer_norm(x.copy(), (1,), numerics=Numerics(is_half)) for is_half in (False, True))
    np.testing.assert_allclose(np.abs(wide), 1, rtol=1e-6)
    assert not np.allclose(np.abs(strict), 1)  # 400 squared is infinity in fp16


def test_each_step_of_a_norm_is_rounded_in_strict16() -> None:
    """A mean of 3,000 with a deviation of 1: fp16 has steps of 2 there."""
    x, ones = np.array([[[3001.0]]], np.float32), np.ones(1, np.float32)
    wide, strict = (batch_norm(x, 3000 * ones, ones, numerics=Numerics(is_half)) for is_half in (False, True))
    assert (wide.item(), strict.item()) == (pytest.approx(1, rel=1e-3), 0)
    y = np.full((1, 4096, 1, 1), 1.0, np.float32)
    widest, roughest = (
        local_response_norm(y, 4096, 4096.0, 1.0, numerics=Numerics(is_half)).min() for is_half in (False, True)
    )
    assert (1 / widest, 1 / roughest) == (pytest.approx(4097, rel=1e-3), pytest.approx(2049, rel=1e-3))
