"""Other exports of the same network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from operators import operators

from dbench.suites.graphs.candidates import exports
from dbench.suites.graphs.source import Original
from drun.errors import ExportError

pytestmark = pytest.mark.slow


def test_the_default_again(transformer: Original) -> None:
    assert exports.default_again(transformer).path == transformer.default()


@pytest.mark.parametrize(
    ("candidate", "has", "lacks"),
    [
        (exports.raw_opset_20, "Softmax", "Attention"),
        (exports.raw_opset_23, "Attention", "Softmax"),
        (exports.parts_opset_23, "Softmax", "Attention"),
    ],
)
def test_other_operators_compute_the_same(
    transformer: Original, error: Callable[..., float], candidate: Any, has: str, lacks: str
) -> None:
    found = operators(candidate(transformer).path)
    assert found[has]
    assert not found[lacks]
    assert error(candidate, transformer) < 1e-5


def test_every_layer_of_tokens_becomes_one_gemm(transformer: Original, error: Callable[..., float]) -> None:
    before, after = operators(transformer.default()), operators(exports.gemm_with_bias(transformer).path)
    assert after["Gemm"] == before["Gemm"] + len(exports.LAYERS)
    assert after["MatMul"] == before["MatMul"] - len(exports.LAYERS)
    assert error(exports.gemm_with_bias, transformer) < 1e-5


def test_a_network_without_tokens(unet: Original) -> None:
    with pytest.raises(ExportError, match="no layers of tokens"):
        exports.gemm_with_bias(unet)
