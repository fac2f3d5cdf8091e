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
    return _of_list(found[0].values, expected)


def _of_list(values: list[Any], expected: TensorType) -> NDArray[Any]:
    if expected.dtype == "string":
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"a constant {expected} holds numbers")
        return np.array(values, np.str_)
    if any(isinstance(value, str) for value in values) or (
        not expected.is_float and any(isinstance(value, float) for value in values)
    ):
        raise ValueError(f"a constant {expected} holds elements of another type")
    try:
        return np.array(values, HELD[expected.dtype])
    except OverflowError as error:
        raise ValueError(f"a constant {expected} holds numbers outside of its range") from error


def _of_bytes(data: bytes, expected: TensorType) -> NDArray[Any]:
    if expected.dtype == "string":
        raise ValueError("a constant string holds bytes")
    flat = np.frombuffer(data, np.uint8)
    if BITS[expected.dtype] < 8:
        return unpacked(flat, BITS[expected.dtype], expected.size, expected.dtype == "int4")
    if len(data) % storage(expected.dtype).itemsize:
        raise ValueError(f"a constant {expected} holds {len(data)} bytes")
    return flat.view(storage(expected.dtype))
