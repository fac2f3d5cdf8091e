"""Exports in other ways than that of dexport onnx."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir
import pytest

from dbench.suites.graphs import exporting
from dbench.suites.graphs.source import Original


@pytest.mark.slow
def test_the_weights_of_a_large_graph_lie_beside_it(
    unet: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx_ir.load(unet.default())
    exporting.save(graph, tmp_path / "small.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]
    monkeypatch.setattr(exporting, "EXTERNAL_DATA_BYTES", 0)
    exporting.save(graph, tmp_path / "large.onnx")
    weights = 4 * sum(parameter.numel() for parameter in unet.part.deployable.parameters())
    assert (tmp_path / "large.onnx.data").stat().st_size > weights / 2
    onnx.checker.check_model(str(tmp_path / "large.onnx"))


@pytest.mark.slow
def test_the_opset_and_the_names_are_as_asked(transformer: Original) -> None:
    graph = onnx.load(transformer.export("raw-23", transformer.part.network, 23))
    assert graph.opset_import[0].version == 23
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["x", "t", "y", "out"]
