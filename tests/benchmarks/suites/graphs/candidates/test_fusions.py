"""Graphs whose operators are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from operators import operators

from dbench.suites.graphs.candidates import fusions
from dbench.suites.graphs.source import Original
from drun.errors import ExportError

pytestmark = pytest.mark.slow


def test_attention_becomes_one_operator(transformer: Original, error: Callable[..., float]) -> None:
    found = operators(fusions.multi_head_attention(transformer).path)
    assert (found["MultiHeadAttention"], found["Softmax"]) == (1, 0)
    assert error(fusions.multi_head_attention, transformer) < 1e-5


def test_a_modulation_becomes_part_of_its_norm(transformer: Original, error: Callable[..., float]) -> None:
    """One block has two norms and the last layer one; each has a Mul and an Add behind it."""
    before, after = operators(transformer.default()), operators(fusions.modulated_norm(transformer).path)
    assert before["LayerNormalization"] == after["LayerNormalization"] == 3
    assert before["Mul"] - after["Mul"] == before["Add"] - after["Add"] == 3
    assert error(fusions.modulated_norm, transformer) < 1e-5


def test_both(transformer: Original, error: Callable[..., float]) -> None:
    found = operators(fusions.multi_head_attention_and_modulated_norm(transformer).path)
    assert (found["MultiHeadAttention"], found["LayerNormalization"]) == (1, 3)
    assert error(fusions.multi_head_attention_and_modulated_norm, transformer) < 1e-5


def test_the_graph_of_the_runtime_itself(transformer: Original, error: Callable[..., float]) -> None:
    found = operators(fusions.optimised_before(transformer).path)
    assert found["FusedMatMul"]
    assert error(fusions.optimised_before, transformer) < 1e-5


def test_a_network_with_nothing_to_merge(unet: Original, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no LayerNormalization that is modulated"):
        fusions.modulated_norm(unet)
    with pytest.raises(ExportError, match="fuses nothing in this network"):
        fusions._fuse(unet.default(), tmp_path / "fused.onnx")


def test_an_attention_that_is_not_fused_is_an_error(transformer: Original) -> None:
    import onnx_ir

    graph = onnx_ir.load(transformer.default())
    with pytest.raises(ExportError, match="fused 0 of 2 attentions"):
        fusions._check_fused(graph, {"sdpa": 2})
