"""Bundles whose denoiser is in two graphs, too: c is (slope, shift) of a time and a label, out = slope (x - shift)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from gaussians import CLASS_STEP, STD, alphas_cumprod, slopes
from onnx import TensorProto, helper, numpy_helper

from drun.bundle import artifact as artifacts
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.files import sha256

SHAPE = (3, 8, 8)
#: How many rows the conditioning graph computes in a call.
ROWS = 4


def add_split(path: Path, width: int = 2, batch: tuple[int, int] | None = None) -> Bundle:
    """Add onnx-fp32-split to a bundle of the Gaussian.

    Args:
        width: of a row; zeros follow the two numbers. batch: smallest and largest of the denoiser; None: as unsplit.
    """
    manifest = bundles.read(path).manifest
    unsplit = manifest.artifacts[0]
    low, high = batch or unsplit.batch
    paths = ["denoiser.fp32-split.onnx", "conditioning.fp32-split.onnx"]
    onnx.save(_denoiser(low if low == high else "N", width), path / paths[0])
    onnx.save(_conditioning(width, conditional=manifest.classes is not None), path / paths[1])
    split = replace(
        unsplit,
        files=tuple(artifacts.FileEntry(name, sha256(path / name)) for name in paths),
        batch=(low, high),
        variant="split",
        conditioning=artifacts.Conditioning((paths[1],), width, (ROWS, ROWS)),
    )
    (path / "manifest.json").write_text(replace(manifest, artifacts=(unsplit, split)).to_json())
    return bundles.read(path)


def exact_row(t: int, label: int | None) -> tuple[float, float]:
    """(slope, shift) in float64, from the closed form of the Gaussian."""
    abar = alphas_cumprod()[t]
    slope = np.sqrt(1 - abar) / (abar * STD**2 + 1 - abar)
    return float(slope), float(np.sqrt(abar) * CLASS_STEP * (label or 0))


def _conditioning(width: int, conditional: bool) -> onnx.ModelProto:
    tables = {"slopes": slopes(1.0), "alphas": np.sqrt(alphas_cumprod()), "class_step": np.array([CLASS_STEP])}
    constants = [numpy_helper.from_array(table.astype(np.float32), name) for name, table in tables.items()]
    constants += [
        numpy_helper.from_array(np.array([-1, 1]), "column"),
        numpy_helper.from_array(np.zeros((ROWS, width - 2), np.float32), "rest"),
        numpy_helper.from_array(np.zeros(ROWS, np.int64), "no_label"),
    ]
    node = helper.make_node
    nodes = [
        node("Cast", ["t"], ["index"], to=TensorProto.INT64),
        node("Gather", ["slopes", "index"], ["slope"]),
        node("Gather", ["alphas", "index"], ["alpha"]),
        node("Cast", ["y" if conditional else "no_label"], ["label"], to=TensorProto.FLOAT),
        node("Mul", ["label", "class_step"], ["mean"]),
        node("Mul", ["mean", "alpha"], ["shift"]),
        node("Reshape", ["slope", "column"], ["slopes_of"]),
        node("Reshape", ["shift", "column"], ["shifts_of"]),
        node("Concat", ["slopes_of", "shifts_of", "rest"], ["c"], axis=1),
    ]
    infos = [helper.make_tensor_value_info("t", TensorProto.FLOAT, [ROWS])]
    infos += [helper.make_tensor_value_info("y", TensorProto.INT64, [ROWS])] if conditional else []
    c = helper.make_tensor_value_info("c", TensorProto.FLOAT, [ROWS, width])
    return _model(nodes, infos, c, constants)


def _denoiser(batch: int | str, width: int) -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(np.array([1, 1, width - 2]), "parts"),
        numpy_helper.from_array(np.array([-1, 1, 1, 1]), "per_image"),
    ]
    node = helper.make_node
    nodes = [
        node("Split", ["c", "parts"], ["slope_of", "shift_of", "rest"], axis=1),
        node("Reshape", ["slope_of", "per_image"], ["slope"]),
        node("Reshape", ["shift_of", "per_image"], ["shift"]),
        node("Sub", ["x", "shift"], ["centred"]),
        node("Mul", ["centred", "slope"], ["out"]),
    ]
    image = [batch, *SHAPE]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)]
    infos.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [batch, width]))
    return _model(nodes, infos, helper.make_tensor_value_info("out", TensorProto.FLOAT, image), constants)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    out: onnx.ValueInfoProto,
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "half", inputs, [out], constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return model
