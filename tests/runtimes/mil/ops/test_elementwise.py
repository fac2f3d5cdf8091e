"""Each element by itself, against coremltools' own value inference and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
Y = RNG.standard_normal((3, 1)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
INSIDE = np.clip(X, -0.9, 0.9)
WHOLE, BELOW = RNG.integers(-9, 9, (2, 5), dtype=np.int32), RNG.integers(1, 9, (5,), dtype=np.int32)


def unary(name: str, x: Array = X) -> Case:
    return Case(name, lambda mb, a: getattr(mb, name)(x=a), [x])


def binary(name: str, x: Array = X, y: Array = Y, kind: str = "") -> Case:
    return Case(f"{name}{kind}", lambda mb, a, b: getattr(mb, name)(x=a, y=b), [x, y])


def logical(name: str) -> Case:
    def build(mb: Any, a: Any, b: Any) -> Any:
        return getattr(mb, name)(x=mb.greater(x=a, y=np.float32(0)), y=mb.less(x=b, y=np.float32(0.5)))

    return Case(name, build, [X, Y])


CASES = [
    *(
        unary(name)
        for name in (
            "abs",
            "atan",
            "ceil",
            "cos",
            "cosh",
            "erf",
            "exp",
            "exp2",
            "floor",
            "identity",
            "round",
            "sign",
            "sin",
            "sinh",
            "square",
            "tan",
            "tanh",
        )
    ),
    *(unary(name, INSIDE) for name in ("acos", "asin", "atanh")),
    unary("sqrt", POSITIVE),
    unary("round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)),
    *(
        binary(name)
        for name in (
            "add",
            "sub",
            "mul",
            "real_div",
            "maximum",
            "minimum",
            "equal",
            "not_equal",
            "greater",
            "greater_equal",
            "less",
            "less_equal",
            "floor_div",
            "mod",
        )
    ),
    *(
        binary(name, WHOLE, BELOW, " of integers")
        for name in ("add", "sub", "mul", "floor_div", "mod", "maximum", "minimum")
    ),
    binary("pow", POSITIVE),
    *(logical(name) for name in ("logical_and", "logical_or", "logical_xor")),
    Case("logical_not", lambda mb, a: mb.logical_not(x=mb.greater(x=a, y=np.float32(0))), [X]),
    Case("select", lambda mb, a, b: mb.select(cond=mb.greater(x=a, y=np.float32(0)), a=a, b=b), [X, -X]),
    Case("rsqrt", lambda mb, a: mb.rsqrt(x=a), [POSITIVE]),
    Case("rsqrt with epsilon", lambda mb, a: mb.rsqrt(x=a, epsilon=np.float32(0.5)), [POSITIVE]),
    Case("log", lambda mb, a: mb.log(x=a), [POSITIVE]),
    Case("log with epsilon", lambda mb, a: mb.log(x=a, epsilon=np.float32(0.5)), [POSITIVE]),
    Case("inverse", lambda mb, a: mb.inverse(x=a), [POSITIVE], lambda x: 1 / (x + 1e-4)),
    Case("inverse with epsilon", lambda mb, a: mb.inverse(x=a, epsilon=np.float32(0.5)), [POSITIVE]),
    Case("clip", lambda mb, a: mb.clip(x=a, alpha=np.float32(-0.5), beta=np.float32(0.7)), [X]),
    Case("threshold", lambda mb, a: mb.threshold(x=a, alpha=np.float32(0.2)), [X]),
    Case("cast to integers", lambda mb, a: mb.cast(x=a, dtype="int32"), [3 * X], lambda x: np.trunc(x)),
    Case("cast to floats", lambda mb, a: mb.cast(x=a, dtype="fp32"), [WHOLE]),
    Case("cast to bool", lambda mb, a: mb.cast(x=a, dtype="bool"), [np.maximum(WHOLE, 0)]),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("elementwise"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_coremltools_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


def test_an_inverse_is_not_one_through_x(tmp_path: Path) -> None:
    """Its epsilon is what makes 1/x of the converter wrong for small numbers."""
    x = np.array([1e-4, 1e-3, 1.0], np.float32)
    ((found,),) = run([Case("inverse", lambda mb, a: mb.inverse(x=a), [x])], tmp_path)
    np.testing.assert_allclose(found * x, [0.5, 1 / 1.1, 1 / 1.0001], rtol=1e-5)


def test_erf_is_that_of_torch() -> None:
    from drun.mil.special import erf

    x = np.linspace(-6, 6, 200_001, dtype=np.float32)
    assert np.abs(erf(x) - torch.erf(torch.from_numpy(x).double()).numpy()).max() < 4e-7
    np.testing.assert_array_equal(erf(np.array([[0.0, np.inf], [-np.inf, 9.0]], np.float32)), [[0, 1], [-1, 1]])
