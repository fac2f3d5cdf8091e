"""Exports networks in other ways than `dexport onnx` does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from dexport.targets import Part
from dexport.targets.onnx import EXTERNAL_DATA_BYTES


def export_at(part: Part, network: nn.Module, opset: int, path: Path) -> None:
    """Write the graph that PyTorch's exporter makes of a network, called as `part` says."""
    import torch

    from dexport.tracing import dynamic_shapes, example_inputs

    with _quiet():
        program = torch.onnx.export(
            network,
            example_inputs(part.inputs, part.batch),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dynamic_shapes(part.inputs, part.batch),
            verbose=False,
            input_names=[tensor.name for tensor in part.inputs],
            output_names=[part.output.name],
        )
    assert program is not None
    save(program.model, path)


def save(model: Any, path: Path) -> None:
    """Write an `onnx_ir.Model`; the weights of a large one lie beside it."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    onnx_ir.save(model, path, external_data=f"{path.name}.data" if size > EXTERNAL_DATA_BYTES else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals and of torchvision, which nothing here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
