"""8-bit graphs: they are smaller, and their loss is neither nothing nor everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import onnx
import pytest

from dbench.suites.graphs.candidates import quantised
from dbench.suites.graphs.source import Original
from drun.errors import ExportError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("candidate", "operator"),
    [
        (quantised.dynamic_int8, "MatMulInteger"),
        (quantised.qdq_int8, "QuantizeLinear"),
        (quantised.weights_8_bits, "MatMulNBits"),
        (quantised.weights_8_bits_int8_products, "MatMulNBits"),
    ],
)
def test_of_a_transformer(transformer: Original, error: Callable[..., float], candidate: Any, operator: str) -> None:
    path = candidate(transformer).path
    assert Counter(node.op_type for node in onnx.load(path).graph.node)[operator]
    assert path.stat().st_size < transformer.default().stat().st_size
    assert 1e-4 < error(candidate, transformer) < 6e-2


def test_convolutions_are_quantised_in_fixed_scales(unet: Original, error: Callable[..., float]) -> None:
    graph = onnx.load(quantised.qdq_int8(unet).path).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert all(node.input[0] in dequantised and node.input[1] in dequantised for node in convolutions)
    assert 1e-4 < error(quantised.qdq_int8, unet) < 2e-1


def test_a_network_without_matrix_products_of_weights(unet: Original) -> None:
    with pytest.raises(ExportError, match="no MatMul with weights"):
        quantised.weights_8_bits(unet)
