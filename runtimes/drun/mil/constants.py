"""The constants of a program: numbers within it, or in a file of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.mil import schema
from drun.mil.blobs import storage, unpacked
from drun.mil.package import Package
from drun.mil.types import BITS, HELD, TensorType, tensor_type


def constant(value: schema.Value, package: Package) -> tuple[TensorType, NDArray[Any]]:
    """The type of a constant and its elements, floats as float32.

    Raises:
        ValueError: it is no tensor, or has another length than its type says.
    """
    expected = tensor_type(value.type)
    if value.blob is not None:
        flat = package.blobs(value.blob.file_name).read(value.blob.offset, expected)
    elif value.immediate is not None and value.immediate.tensor is not None:
        flat = _immediate(value.immediate.tensor, expected)
    else:
        raise ValueError(f"a constant {expected} has no elements")
    if flat.size != expected.size:
        raise ValueError(f"a constant has {flat.size:,} elements, expected {expected}")
    return expected, flat.astype(HELD[expected.dtype], copy=False).reshape(expected.shape)


def _immediate(tensor: schema.TensorValue, expected: TensorType) -> NDArray[Any]:
    lists = (tensor.floats, tensor.doubles, tensor.integers, tensor.long_integers, tensor.booleans, tensor.strings)
    found: list[Any] = [one for one in lists if one is not None]
    if tensor.bytes is not None:
        return _of_bytes(tensor.bytes.values, expected)
    if len(found) != 1:
        raise ValueError(f"a constant {expected} has {len(found)} lists of elements, expected one")
    values = found[0].values
    if len(values) != expected.size:
        raise ValueError(f"a constant has {len(values):,} elements, expected {expected}")
    return _of_list(values if isinstance(values, list) else values.array(), expected)


def _of_list(values: list[str] | NDArray[Any], expected: TensorType) -> NDArray[Any]:
    if isinstance(values, list) != (expected.dtype == "string"):
        raise ValueError(f"a constant {expected} holds {'text' if isinstance(values, list) else 'numbers'}")
    if isinstance(values, list):
        return np.array(values, np.str_)
    with np.errstate(over="ignore"):
        found = values.astype(HELD[expected.dtype])
    if expected.is_float:
        return found
    if values.dtype.kind == "f":
        raise ValueError(f"a constant {expected} holds elements of another type")
    if not np.array_equal(found, values):
        raise ValueError(f"a constant {expected} holds numbers outside of its range")
    return found


def _of_bytes(data: bytes, expected: TensorType) -> NDArray[Any]:
    if expected.dtype == "string":
        raise ValueError("a constant string holds bytes")
    flat, bits = np.frombuffer(data, np.uint8), BITS[expected.dtype]
    if len(data) != -(-bits * expected.size // 8):
        raise ValueError(f"a constant {expected} holds {len(data):,} bytes")
    if bits < 8:
        return unpacked(flat, bits, expected.size, expected.dtype == "int4")
    return flat.view(storage(expected.dtype))
