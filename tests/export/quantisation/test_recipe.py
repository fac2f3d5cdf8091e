"""The products that are computed in int8, on graphs that are written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from dexport.quantisation.recipe import CONVOLUTIONAL, TRANSFORMER, plan
from drun.errors import ExportError


def parameter(name: str, *shape: int) -> Any:
    made = ops.parameter(shape, np.float32, name)
    made.output(0).set_names({name})
    return made


def conv(x: Any, name: str, side: int = 3) -> Any:
    weights = np.ones((4, 4, side, side), np.float32)
    pad = [side // 2] * 2
    return ops.convolution(x, weights, [1, 1], pad, pad, [1, 1], name=name)


def depthwise(x: Any, name: str) -> Any:
    weights = np.ones((4, 1, 1, 3, 3), np.float32)
    return ops.group_convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1], name=name)


def linear(x: Any, name: str) -> Any:
    return ops.matmul(x, np.ones((4, 4), np.float32), False, True, name=name)


def test_a_convolutional_network_keeps_both_ends_its_shortcuts_and_its_depthwise_convolutions() -> None:
    x, t = parameter("x", 1, 4, 8, 8), parameter("t", 1, 4)
    entered = conv(x, "first")
    h = ops.add(conv(ops.relu(conv(entered, "a")), "b"), conv(entered, "shortcut", side=1))
    h = ops.add(h, ops.unsqueeze(ops.unsqueeze(linear(t, "time"), 2), 3))
    h = depthwise(h, "depthwise")
    for number in range(6, 0, -1):
        h = conv(h, f"last {number}")
    chosen = plan(ov.Model([h], [x, t]))
    assert chosen.scheme == CONVOLUTIONAL
    assert {*chosen.quantised} == {"a", "b", "time"}
    assert {*chosen.kept} == {"first", "shortcut", "depthwise", *(f"last {number}" for number in range(1, 7))}
    assert {"Add", "Relu", "Unsqueeze"} <= {*chosen.kept_types}
    assert not {"Convolution", "Constant", "Parameter", "Result"} & {*chosen.kept_types}


def test_the_longest_path_to_the_output_counts() -> None:
    """A skip connection does not make the first levels an end of the network."""
    x = parameter("x", 1, 4, 8, 8)
    skip = h = conv(conv(x, "first"), "early")
    for number in range(6):
        h = conv(h, f"deep {number}")
    chosen = plan(ov.Model([conv(ops.add(h, skip), "last")], [x]))
    assert {*chosen.quantised} == {"early", "deep 0"}


def test_a_transformer_keeps_the_patches_the_last_layer_and_the_products_of_attention() -> None:
    x = parameter("x", 1, 4, 4, 4)
    tokens = ops.reshape(conv(x, "patches", side=1), np.array([1, 16, 4]), False)
    query, key, value = (linear(tokens, name) for name in ("query", "key", "value"))
    scores = ops.softmax(ops.matmul(query, key, False, True, name="scores"), 2)
    mixed = linear(ops.matmul(scores, value, False, False, name="mix"), "projection")
    chosen = plan(ov.Model([linear(ops.add(tokens, mixed), "last")], [x]))
    assert chosen.scheme == TRANSFORMER
    assert {*chosen.quantised} == {"query", "key", "value", "projection"}
    assert {*chosen.kept} == {"patches", "scores", "mix", "last"}


def test_attention_in_a_network_of_convolutions_makes_no_transformer() -> None:
    x = parameter("x", 1, 4, 4, 4)
    h = conv(conv(conv(x, "first", side=5), "a", side=5), "b", side=5)
    tokens = linear(ops.reshape(h, np.array([1, 16, 4]), False), "query")
    scores = ops.softmax(ops.matmul(tokens, tokens, False, True), 2)
    h = ops.reshape(ops.matmul(scores, tokens, False, False), np.array([1, 4, 4, 4]), False)
    for number in range(6):
        h = conv(h, f"last {number}")
    assert plan(ov.Model([h], [x])).scheme == CONVOLUTIONAL


def test_a_graph_without_a_product_to_quantise() -> None:
    x = parameter("x", 1, 4, 8, 8)
    with pytest.raises(ExportError, match="int8 would compute none of the graph's 2 products: use another precision"):
        plan(ov.Model([conv(conv(x, "first"), "last")], [x]))
