"""Products of matrices, against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Array, Case, check, run
from torch.nn import functional as F

from drun.errors import BundleError
from drun.mil.ops.linear import einsum

RNG = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def t(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x))


W, B = array(6, 4), array(6)
Q, K, V = array(2, 3, 5, 8), array(2, 3, 7, 8), array(2, 3, 7, 6)
MASK = array(5, 7)

CASES = [
    Case(
        "linear", lambda mb, a: mb.linear(x=a, weight=W, bias=B), [array(2, 3, 4)], lambda x: F.linear(t(x), t(W), t(B))
    ),
    Case("linear without bias", lambda mb, a: mb.linear(x=a, weight=W), [array(5, 4)], lambda x: F.linear(t(x), t(W))),
    Case("matmul", lambda mb, a, b: mb.matmul(x=a, y=b), [array(2, 1, 3, 4), array(5, 4, 6)], lambda x, y: x @ y),
    Case(
        "matmul, both transposed",
        lambda mb, a, b: mb.matmul(x=a, y=b, transpose_x=True, transpose_y=True),
        [array(2, 4, 3), array(2, 6, 4)],
        lambda x, y: x.transpose(0, 2, 1) @ y.transpose(0, 2, 1),
    ),
    Case(
        "einsum",
        lambda mb, a, b: mb.einsum(values=(a, b), equation="nchw,nwhu->nchu"),
        [array(2, 3, 4, 5), array(2, 5, 4, 6)],
        lambda x, y: torch.einsum("nchw,nwhu->nchu", t(x), t(y)),
    ),
    Case(
        "einsum of rank 3",
        lambda mb, a, b: mb.einsum(values=(a, b), equation="chw,whr->chr"),
        [array(3, 4, 5), array(5, 4, 6)],
        lambda x, y: torch.einsum("chw,whr->chr", t(x), t(y)),
    ),
    Case(
        "einsum of split attention",
        lambda mb, a, b: mb.einsum(values=(a, b), equation="bkhc,bchq->bkhq"),
        [array(2, 7, 1, 8), array(2, 8, 1, 5)],
        lambda x, y: torch.einsum("bkhc,bchq->bkhq", t(x), t(y)),
    ),
    Case(
        "attention",
        lambda mb, q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
        [Q, K, V],
        lambda q, k, v: F.scaled_dot_product_attention(t(q), t(k), t(v)),
    ),
    Case(
        "attention with a mask",
        lambda mb, q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m),
        [Q, K, V, MASK],
        lambda q, k, v, m: F.scaled_dot_product_attention(t(q), t(k), t(v), t(m)),
    ),
    Case(
        "attention with a mask of booleans",
        lambda mb, q, k, v, m: mb.scaled_dot_product_attention(
            query=q, key=k, value=v, attn_mask=mb.greater(x=m, y=np.float32(-1))
        ),
        [Q, K, V, MASK],
        lambda q, k, v, m: F.scaled_dot_product_attention(t(q), t(k), t(v), t(m) > -1),
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[Array]]:
    return run(CASES, tmp_path_factory.mktemp("linear"))


@pytest.mark.parametrize("place", range(len(CASES)), ids=[case.id for case in CASES])
def test_it_computes_what_torch_does(place: int, results: list[list[Array]]) -> None:
    check(CASES[place], results[place])


@pytest.mark.parametrize(
    ("equation", "first", "second"),
    [
        ("bhqk,bhkc->bqhc", (2, 3, 4, 5), (2, 3, 5, 6)),
        ("ij,jk->ki", (2, 3), (3, 4)),
        ("bi,bj->bij", (2, 3), (2, 4)),
        ("bhc,hcd->bhd", (5, 1, 4), (1, 4, 6)),
    ],
)
def test_other_equations(equation: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = array(*first), array(*second)
    np.testing.assert_allclose(einsum([a, b], equation), np.einsum(equation, a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation", ["...ij,jk->ik", "ii,ij->ij", "ij->ji", "ij,jk,kl->il", "ij,jk->i", "ijk,kl->il"])
def test_equations_that_are_not_known_are_refused(equation: str) -> None:
    with pytest.raises(ValueError, match="einsum got"):
        einsum([array(3, 3), array(3, 3)], equation)


def test_attention_is_of_ios_18(tmp_path: Path) -> None:
    from drun.mil.ops import find

    with pytest.raises(ValueError, match=r"'scaled_dot_product_attention' is not known in opset CoreML7"):
        find("scaled_dot_product_attention", 7)
    assert BundleError.exit_code == 1
