"""Graphs that are made once, for all batch sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from dbench.suites.graphs.source import Original, named


def test_a_graph_is_written_once(unet: Original, tmp_path: Path) -> None:
    original, written = replace(unet, folder=tmp_path), []

    def write(folder: Path) -> None:
        written.append((folder / "denoiser.onnx").write_text("graph"))

    paths = {replace(original, batch=batch).once("a", write) for batch in (1, 8)}
    assert [path.read_text() for path in paths] == ["graph"]
    assert len(written) == 1


def test_a_graph_that_fails_leaves_nothing(unet: Original, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no graph")

    with pytest.raises(RuntimeError, match="no graph"):
        replace(unet, folder=tmp_path).once("a", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_the_graph_of_dexport_onnx(unet: Original) -> None:
    graph = onnx.load(unet.default())
    assert graph.opset_import[0].version == 20
    assert not any(node.op_type == "InstanceNormalization" for node in graph.graph.node)


def test_inputs_by_name(transformer: Original) -> None:
    inputs = (np.zeros((2, 1, 16, 16), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64))
    assert list(named(transformer.part, inputs)) == ["x", "t", "y"]
