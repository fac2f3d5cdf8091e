"""Exports networks in other ways than `dexport onnx` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dexport.targets import Part
from dexport.targets.onnx import EXTERNAL_DATA_BYTES, traced


def export_at(part: Part, network: nn.Module, opset: int, path: Path) -> None:
    """Write the graph that PyTorch's exporter makes of a network, called as `part` says."""
    save(traced(replace(part, deployable=network), opset, optimize=True).model, path)


def save(model: Any, path: Path) -> None:
    """Write an `onnx_ir.Model`; the weights of a large one lie beside it."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    onnx_ir.save(model, path, external_data=f"{path.name}.data" if size > EXTERNAL_DATA_BYTES else None)
