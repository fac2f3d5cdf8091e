"""Checks an exported graph for operators that some runtime misreads without an error."""

from __future__ import annotations

from collections import Counter
from typing import Any

from drun.errors import ExportError

FORBIDDEN = {
    "GroupNormalization": "TensorRT reads it with one group as a norm of each channel",
    "SpaceToDepth": "its channel order differs from pixel-unshuffle's",
}


def check_graph(model: Any) -> Counter[str]:
    """Count and check the operators of an `onnx.ModelProto`.

    Raises:
        ExportError: a forbidden operator, or float64 anywhere, which TensorRT narrows in silence.
    """
    import onnx

    operators = Counter(node.op_type for node in model.graph.node)
    for operator, reason in FORBIDDEN.items():
        if operators[operator]:
            raise ExportError(f"the graph has {operators[operator]} {operator}, expected none: {reason}")
    wide = [tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.DOUBLE]
    wide += [
        value.name for value in model.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    ]
    if wide:
        raise ExportError(f"the graph holds float64 values such as '{wide[0]}', expected float32: write the model so")
    return operators
