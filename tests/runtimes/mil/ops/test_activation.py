"""Activations, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.mil.numerics import Numerics, half
from drun.mil.ops.activation import gelu, sigmoid, silu

X = (3 * np.random.default_rng(0).standard_normal((2, 3, 5))).astype(np.float32)
FAR = np.array([-200.0, -90.0, 0.0, 90.0, 200.0], np.float32)
SLOPES = np.array([0.1, -0.2, 0.3], np.float32)


def t(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


CASES = [
    Case("relu", lambda mb, a: mb.relu(x=a), [X], lambda x: F.relu(t(x))),
    Case("relu6", lambda mb, a: mb.relu6(x=a), [3 * X], lambda x: F.relu6(t(x))),
    Case("sigmoid", lambda mb, a: mb.sigmoid(x=a), [X], lambda x: torch.sigmoid(t(x))),
    Case(
        "sigmoid of large numbers",
        lambda mb, a: mb.sigmoid(x=a),
        [FAR],
        lambda x: torch.sigmoid(t(x)),
        is_inferred=False,
    ),
    Case("silu", lambda mb, a: mb.silu(x=a), [X], lambda x: F.silu(t(x))),
    Case("gelu", lambda mb, a: mb.gelu(x=a), [X], lambda x: F.gelu(t(x))),
    Case(
        "gelu by tanh",
        lambda mb, a: mb.gelu(x=a, mode="TANH_APPROXIMATION"),
        [X],
        lambda x: F.gelu(t(x), approximate="tanh"),
    ),
    Case(
        "gelu by sigmoid",
        lambda mb, a: mb.gelu(x=a, mode="SIGMOID_APPROXIMATION"),
        [X],
        lambda x: t(x) * torch.sigmoid(1.702 * t(x)),
    ),
    Case("leaky_relu", lambda mb, a: mb.leaky_relu(x=a, alpha=np.float32(0.2)), [X], lambda x: F.leaky_relu(t(x), 0.2)),
    Case("elu", lambda mb, a: mb.elu(x=a, alpha=np.float32(0.7)), [X], lambda x: F.elu(t(x), 0.7)),
    Case("prelu", lambda mb, a: mb.prelu(x=a, alpha=SLOPES), [X[..., None]], lambda x: F.prelu(t(x), t(SLOPES))),
    Case(
        "clamped_relu",
        lambda mb, a: mb.clamped_relu(x=a, alpha=np.float32(0.1), beta=np.float32(2)),
        [X],
        lambda x: np.minimum(np.where(x > 0, x, 0.1 * x), 2),
    ),
    Case(
        "thresholded_relu",
        lambda mb, a: mb.thresholded_relu(x=a, alpha=np.float32(0.5)),
        [X],
        lambda x: np.where(x >= 0.5, x, 0),
    ),
    Case(
        "linear_activation",
        lambda mb, a: mb.linear_activation(x=a, alpha=np.float32(2), beta=np.float32(1)),
        [X],
        lambda x: 2 * x + 1,
    ),
    Case(
        "sigmoid_hard",
        lambda mb, a: mb.sigmoid_hard(x=a, alpha=np.float32(0.2), beta=np.float32(0.5)),
        [X],
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    ),
    Case(
        "scaled_tanh",
        lambda mb, a: mb.scaled_tanh(x=a, alpha=np.float32(2), beta=np.float32(0.5)),
        [X],
        lambda x: 2 * np.tanh(0.5 * x),
    ),
    Case("softplus", lambda mb, a: mb.softplus(x=a), [X], lambda x: F.softplus(t(x))),
    Case(
        "softplus_parametric",
        lambda mb, a: mb.softplus_parametric(x=a, alpha=np.abs(SLOPES), beta=SLOPES),
        [X[..., None]],
        lambda x: np.abs(SLOPES)[:, None, None] * np.log1p(np.exp(SLOPES[:, None, None] * x)),
    ),
    Case("softsign", lambda mb, a: mb.softsign(x=a), [X], lambda x: F.softsign(t(x))),
    Case("softmax", lambda mb, a: mb.softmax(x=a), [X], lambda x: torch.softmax(t(x), -1)),
    Case("softmax of an axis", lambda mb, a: mb.softmax(x=a, axis=1), [X], lambda x: torch.softmax(t(x), 1)),
    Case("softmax of large numbers", lambda mb, a: mb.softmax(x=a), [FAR], lambda x: torch.softmax(t(x), -1)),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("activation"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_steps_are_rounded_in_strict16(mode: str) -> None:
    x = half(X)
    wide, strict = (half(gelu(x, mode, numerics=Numerics(is_half))) for is_half in (False, True))
    assert not np.array_equal(wide, strict)
    np.testing.assert_allclose(strict, wide, atol=0.005)
    np.testing.assert_array_equal(silu(x, numerics=Numerics(True)), x * half(sigmoid(x)))
