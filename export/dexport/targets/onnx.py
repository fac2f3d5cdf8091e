"""Export the denoiser to ONNX, which ONNX Runtime, OpenVINO and TensorRT read, prove it, and put it into a bundle."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dexport.lint import check_graph, check_precision, modules_of
from dexport.targets import Part
from drun.bundle.artifact import Artifact, FileEntry
from drun.console import say
from drun.files import sha256

#: precision of the graph -> the backend that proves it
PROVERS = {"fp32": "ort", "fp16": "ort", "bf16": "openvino"}
SPLITS = ("fp32", "fp16", "bf16")
#: Has Gelu and keeps attention and norms in parts, which fp32 TensorRT needs.
OPSET = 20
#: Convolutions know bfloat16 from here on.
OPSETS = {"bf16": 22}
#: Above this the weights lie beside the graph: ONNX Runtime then maps them instead of parsing and copying them, which
#: halves its peak memory, and protobuf ends at 2 GB anyhow.
EXTERNAL_DATA_BYTES = 50_000_000


def export(part: Part, folder: Path) -> Artifact:
    """Write `<stem>.onnx`, with the input and output names and dtypes of the part.

    Raises:
        ExportError: the graph has an operator that some runtime reads wrongly, or casts where it should not.
    """
    from dexport.precision import lowered

    return written(replace(part, deployable=lowered(part.deployable, part.precision)), folder)


def written(part: Part, folder: Path) -> Artifact:
    """As `export`, of a network that computes in the precision already."""
    path = folder / f"{part.stem}.onnx"
    program = traced(part, _opset(part), optimize=False)
    weights = [*program.model.graph.initializers.values()]
    program.optimize()
    weights += program.model.graph.initializers.values()
    wide = _checked_precision(part, program.model.graph)
    _strip(program.model)
    check_graph(program.model.graph)
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in part.deployable.parameters())
    program.save(path, external_data=num_bytes > EXTERNAL_DATA_BYTES)
    for value in weights:  # let them go: onnxscript's rules keep the graph that they matched last
        value.const_value = None
    files = sorted(folder.glob(f"{path.name}*"))
    return Artifact(
        format="onnx",
        precision=part.precision,
        io=part.io,
        files=tuple(FileEntry(file.name, sha256(file)) for file in files),
        batch=part.batch,
        target={"opset": _opset(part)} | ({"fp32": wide} if wide else {}),
        producers={name: version(name) for name in ("torch", "onnx", "onnxscript")},
        tolerance=part.tolerance,
    )


def _checked_precision(part: Part, graph: Any) -> list[str]:
    """The modules that stay float32 in a graph of lower precision, which is checked for others that do.

    Raises ExportError as `check_precision`.
    """
    from dexport.precision import places, summary

    if part.precision == "fp32":
        return []
    found = check_precision(graph, places(part.deployable))
    wide = summary(part.deployable, modules_of(graph))
    casts, products = found.pop("Cast", 0), found.total()
    count = f"{casts} casts and {products} products in fp32, each where it is expected"
    say(f"{part.stem} keeps in fp32 {', '.join(wide)}: {count}")
    return wide


def _opset(part: Part) -> int:
    return OPSETS.get(part.precision, OPSET)


def traced(part: Part, opset: int, optimize: bool) -> Any:
    """The `torch.onnx.ONNXProgram` that PyTorch's exporter makes of `part.deployable`."""
    import torch

    from dexport.tracing import dynamic_shapes, example_inputs, quiet

    example, dynamic = example_inputs(part.inputs, part.batch), dynamic_shapes(part.inputs, part.batch)
    with quiet():
        return torch.onnx.export(
            part.deployable,
            example,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=dynamic,
            optimize=optimize,
            verbose=False,
            input_names=[tensor.name for tensor in part.inputs],
            output_names=[part.output.name],
        )


def _strip(model: Any) -> None:
    """Drop the exporter's notes: stack traces with this machine's paths, larger than a small network's graph."""
    model.metadata_props.clear()
    for item in (model.graph, *model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        item.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        for item in (node, *node.outputs):
            item.metadata_props.clear()
