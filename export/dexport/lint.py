"""Checks an exported graph for operators that some runtime misreads without an error, and for stray float32."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from drun.errors import ExportError

FORBIDDEN = {
    "GroupNormalization": "TensorRT reads it with one group as a norm of each channel",
    "SpaceToDepth": "its channel order differs from pixel-unshuffle's",
}

#: The operators whose precision decides the speed of a graph.
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum")
#: The exporter's note on a node: the names of the modules around it, the outermost first, then its own.
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Places:
    """The modules of a network in low precision, by name."""

    islands: Collection[str]  # what lies in them is float32, and may cast
    casting: Collection[str]  # may cast between float32 and the low precision


def check_graph(graph: Any) -> Counter[str]:
    """Count and check the operators of an `onnx_ir.Graph`, whose weights are not read.

    Raises:
        ExportError: a forbidden operator, or float64 anywhere, which TensorRT narrows in silence.
    """
    import onnx_ir

    nodes = [*graph.all_nodes()]
    operators = Counter(node.op_type for node in nodes)
    for operator, reason in FORBIDDEN.items():
        if operators[operator]:
            raise ExportError(f"the graph has {operators[operator]} {operator}, expected none: {reason}")
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in nodes for value in node.outputs)]
    if wide := [value.name for value in values if value.dtype == onnx_ir.DataType.DOUBLE]:
        raise ExportError(f"the graph holds float64 values such as '{wide[0]}', expected float32: write the model so")
    return operators


def check_precision(graph: Any, places: Places) -> Counter[str]:
    """Count the casts between float types and the products in float32 of an `onnx_ir.Graph` in low precision.

    Args:
        graph: as the exporter made it, with its notes.

    Raises:
        ExportError: one of them lies in a module where none is expected: it would slow the graph down, or a number that
        was to stay float32 is rounded.
    """
    found: Counter[str] = Counter()
    for node in graph.all_nodes():
        if node.op_type not in ("Cast", *PRODUCTS) or not (dtypes := _dtypes(node)):
            continue
        found[node.op_type] += 1
        modules = _modules(node)
        is_inside = any(module in places.islands for module in modules)
        if not is_inside and not (node.op_type == "Cast" and _may_cast(node, graph, modules[-1], places)):
            raise ExportError(
                f"module '{modules[-1]}' has the {node.op_type} '{node.name}' in {dtypes}, expected none outside the "
                "islands: add the module to dexport/precision/islands.py"
            )
    return found


def modules_of(graph: Any) -> set[str]:
    """The names of all modules that an `onnx_ir.Graph` has operators of, by the exporter's notes."""
    return {module for node in graph.all_nodes() for module in _modules(node)}


def _dtypes(node: Any) -> str:
    """The types of a cast between float types, or `float32` for a product in it, or else nothing."""
    value, result = node.inputs[0].dtype, node.outputs[0].dtype
    if node.op_type != "Cast":
        return "float32" if result.name == "FLOAT" else ""
    is_float = value.is_floating_point() and result.is_floating_point()
    return f"{value.name.lower()} to {result.name.lower()}" if is_float else ""


def _modules(node: Any) -> list[str]:
    """The names of the modules around a node; the network's own is empty."""
    return ast.literal_eval(node.metadata_props.get(SCOPES, "['']"))[:-1] or [""]


def _may_cast(node: Any, graph: Any, module: str, places: Places) -> bool:
    return module in places.casting or (module == "" and node.outputs[0] in graph.outputs)
