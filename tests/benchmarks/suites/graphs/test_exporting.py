"""Exports in other ways than that of dexport onnx."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir
import pytest

from dbench.suites.graphs import exporting
from dbench.suites.graphs.source import Original


def test_the_weights_of_a_large_graph_lie_beside_it(
    unet: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx_ir.load(unet.default())
    exporting.save(graph, tmp_path / "small.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]
    monkeypatch.setattr(exporting, "EXTERNAL_DATA_BYTES", 0)
    exporting.save(graph, tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx.data").stat().st_size > 10 * (tmp_path / "large.onnx").stat().st_size / 100
    onnx.checker.check_model(str(tmp_path / "large.onnx"))


def test_the_opset_and_the_names_are_as_asked(unet: Original, tmp_path: Path) -> None:
    exporting.export_at(unet.part, unet.part.network, 23, tmp_path / "raw.onnx")
    graph = onnx.load(tmp_path / "raw.onnx")
    assert graph.opset_import[0].version == 23
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["x", "t", "out"]
    assert any(node.op_type == "GroupNormalization" for node in graph.graph.node)
