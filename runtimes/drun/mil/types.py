"""The types of tensors in an ML Program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drun.mil import schema

#: number in MIL.proto -> name
NAMES: Mapping[int, str] = {
    1: "bool", 2: "string", 10: "fp16", 11: "fp32", 12: "fp64", 13: "bf16",
    21: "int8", 22: "int16", 23: "int32", 24: "int64", 25: "int4",
    31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6",
    39: "uint3",
}  # fmt: skip
FLOATS = ("fp16", "fp32")
#: name -> how its values are held by the executor. Floats are always float32: an fp16 value is one that fp16 can hold.
HELD = {
    "bool": np.dtype(np.bool_), "string": np.dtype(np.str_), "fp16": np.dtype(np.float32), "fp32": np.dtype(np.float32),
    "int8": np.dtype(np.int8), "int16": np.dtype(np.int16), "int32": np.dtype(np.int32), "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16), "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64), "int4": np.dtype(np.int8),
    **{f"uint{bits}": np.dtype(np.uint8) for bits in (1, 2, 3, 4, 6)},
}  # fmt: skip
#: name -> bits of an element in a file
BITS = {"bool": 8, "fp16": 16, "fp32": 32} | {
    f"{sign}int{bits}": bits for sign in ("", "u") for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)
}
#: The largest tensor, elements: 1 GiB of float32. A decoder of 1,024 pixels has half of that.
MAX_ELEMENTS = 1 << 28


@dataclass(frozen=True)
class TensorType:
    dtype: str  # one of `HELD`
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def tensor_type(stated: schema.ValueType | None) -> TensorType:
    """A tensor's type. Raises ValueError for what is no tensor of fixed shape and known type."""
    if stated is None or stated.tensor is None:
        kind = "no type" if stated is None else "a list, a tuple, a dictionary or a state"
        raise ValueError(f"a value has {kind}, expected a tensor")
    found = stated.tensor
    name = NAMES.get(found.data_type, str(found.data_type))
    if name not in HELD:
        raise ValueError(f"a tensor has the type {name}, expected one of {', '.join(HELD)}")
    if found.rank != len(found.dimensions):
        raise ValueError(f"a tensor of rank {found.rank} has {len(found.dimensions)} dimensions")
    shape = []
    for one in found.dimensions:
        if one.constant is None:
            raise ValueError("a tensor has a side of unknown length, expected a fixed shape")
        shape.append(one.constant.size)
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"a tensor has the shape {tuple(shape)}, expected at most {MAX_ELEMENTS:,} elements")
    return TensorType(name, tuple(shape))
