"""Which products of a graph are computed in int8, told by the graph alone.

Both ends of a network decide how far its images are from those of the float32 graph: the first product of the state,
and the last products before the output. They stay as they are, and so does everything but products with weights.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from drun.bundle.artifact import STATE
from drun.errors import ExportError

#: Operations that are products with weights, where an input of theirs is constant.
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
#: Operations between weights and their product, which change no value.
FORMS = ("Convert", "Reshape", "Transpose", "Unsqueeze", "Squeeze")


@dataclass(frozen=True)
class Scheme:
    """How a kind of network is quantised."""

    kept_at_end: int  # products stay if fewer than this many follow on their longest path to the output
    keeps_pointwise: bool  # whether 1x1 convolutions stay: they carry the residual stream, and cost little
    smooth_quant: float | None  # alpha of SmoothQuant (Xiao et al. 2023): a part of the range moves to the weights
    is_transformer: bool  # whether attention is looked for


CONVOLUTIONAL = Scheme(6, keeps_pointwise=True, smooth_quant=None, is_transformer=False)
TRANSFORMER = Scheme(1, keeps_pointwise=False, smooth_quant=0.5, is_transformer=True)


@dataclass(frozen=True)
class Plan:
    scheme: Scheme
    quantised: tuple[str, ...]  # names of the products that are computed in int8
    kept: tuple[str, ...]  # names of all other products, those of attention included
    kept_types: tuple[str, ...]  # types of all operations that are no products


def plan(model: Any) -> Plan:
    """Choose the products of an `openvino.Model` with an input x that are computed in int8.

    Raises:
        ExportError: there are none.
    """
    operations = model.get_ordered_ops()
    products = {op.get_name(): op for op in operations if _weights(op) is not None}
    scheme = TRANSFORMER if _is_transformer(operations, products.values()) else CONVOLUTIONAL
    first, after = _first(operations, products), _num_after(operations, products)
    chosen = {
        name
        for name, op in products.items()
        if name not in first and after[name] >= scheme.kept_at_end and not _stays(op, scheme)
    }
    if not chosen:
        raise ExportError(f"int8 would compute none of the graph's {len(products)} products: use another precision")
    by_type = [op for op in operations if op.get_type_name() in PRODUCTS]
    return Plan(
        scheme,
        tuple(op.get_friendly_name() for op in by_type if op.get_name() in chosen),
        tuple(op.get_friendly_name() for op in by_type if op.get_name() not in chosen),
        tuple(sorted({op.get_type_name() for op in operations} - {*PRODUCTS, "Constant", "Parameter", "Result"})),
    )


def _weights(operation: Any) -> Any | None:
    """The constant that an operation multiplies by; None if it multiplies by none."""
    if operation.get_type_name() not in PRODUCTS:
        return None
    for value in operation.input_values():
        node = value.get_node()
        while node.get_type_name() in FORMS:
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            return node
    return None


def _stays(product: Any, scheme: Scheme) -> bool:
    """Whether its kind stays, wherever it lies: depthwise convolutions cost little and lose much."""
    kind = product.get_type_name()
    if kind == "Convolution" and scheme.keeps_pointwise:
        return math.prod(_weights(product).output(0).shape[2:]) == 1  # type: ignore[union-attr]
    return bool(kind == "GroupConvolution")


def _is_transformer(operations: Iterable[Any], products: Iterable[Any]) -> bool:
    """Whether there is attention, and most weights are those of matrix products."""
    sizes = dict.fromkeys(PRODUCTS, 0)
    for op in products:
        sizes[op.get_type_name()] += math.prod(_weights(op).output(0).shape)  # type: ignore[union-attr]
    has_attention = any(op.get_type_name() == "Softmax" for op in operations)
    return has_attention and 2 * sizes["MatMul"] > sum(sizes.values())


def _first(operations: Iterable[Any], products: Container[str]) -> set[str]:
    """The products of the state itself, with no other product between."""
    raw = {op.get_name() for op in operations if STATE in _names(op)}
    first: set[str] = set()
    for op in operations:
        if any(value.get_node().get_name() in raw for value in op.input_values()):
            (first if op.get_name() in products else raw).add(op.get_name())
    return first


def _names(operation: Any) -> set[str]:
    is_input = operation.get_type_name() == "Parameter"
    return set(operation.output(0).names) if is_input else set()


def _num_after(operations: Sequence[Any], products: Container[str]) -> dict[str, int]:
    """Name -> the number of products that follow on its longest path to the output."""
    after: dict[str, int] = {}
    for op in reversed(operations):
        readers = [reader.get_node().get_name() for out in op.outputs() for reader in out.get_target_inputs()]
        after[op.get_name()] = max((after[name] + (name in products) for name in readers), default=0)
    return after
