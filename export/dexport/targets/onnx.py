"""ONNX: read by ONNX Runtime, OpenVINO and TensorRT alike."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dexport.lint import check_graph
from drun.bundle import Artifact, FileEntry, Tolerance
from drun.files import sha256

#: Has Gelu and keeps attention and norms in parts, which fp32 TensorRT needs.
OPSET = 20
#: Above this the weights lie beside the graph: ONNX Runtime then maps them instead of parsing and copying them, which
#: halves its peak memory, and protobuf ends at 2 GB anyhow.
EXTERNAL_DATA_BYTES = 50_000_000
FP32_TOLERANCE = Tolerance(call=1e-5, trajectory=1e-3)


def export(network: nn.Module, image_shape: tuple[int, int, int], batch: tuple[int, int], folder: Path) -> Artifact:
    """Write `denoiser.fp32.onnx`: x (N, C, H, W), t (N,) -> out, all float32.

    Args:
        network: a deployable network.
        batch: smallest and largest N; equal for a static graph.

    Raises:
        ExportError: the graph has an operator that some runtime reads wrongly.
    """
    path = folder / "denoiser.fp32.onnx"
    program = _program(network, image_shape, batch)
    _strip(program.model)
    check_graph(program.model_proto)
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    program.save(path, external_data=num_bytes > EXTERNAL_DATA_BYTES)
    files = sorted(folder.glob(f"{path.name}*"))
    return Artifact(
        format="onnx",
        precision="fp32",
        files=tuple(FileEntry(file.name, sha256(file)) for file in files),
        batch=batch,
        target={"opset": OPSET},
        producers={name: version(name) for name in ("torch", "onnx", "onnxscript")},
        tolerance=FP32_TOLERANCE,
    )


def _program(network: nn.Module, image_shape: tuple[int, int, int], batch: tuple[int, int]) -> Any:
    low, high = batch
    # torch.export takes an example batch of 1 for a constant.
    size = low if low == high else max(2, low)
    example = (torch.zeros(size, *image_shape), torch.zeros(size))
    dynamic = None if low == high else _dynamic(low, high)
    with _quiet():
        return torch.onnx.export(
            network, example, dynamo=True, opset_version=OPSET, dynamic_shapes=dynamic,
            input_names=["x", "t"], output_names=["out"], verbose=False,
        )  # fmt: skip


def _strip(model: Any) -> None:
    """Drop the exporter's notes: stack traces with this machine's paths, larger than a small network's graph."""
    model.metadata_props.clear()
    for item in (model.graph, *model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        item.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        for item in (node, *node.outputs):
            item.metadata_props.clear()


def _dynamic(low: int, high: int) -> tuple[dict[int, Any], ...]:
    batch = torch.export.Dim("batch", min=low, max=high)
    return ({0: batch}, {0: batch})


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
