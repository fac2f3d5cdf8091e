"""The arguments of a function of a package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def arguments(names: Sequence[str], arrays: Sequence[NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Arrays by the names of the inputs, as Core ML takes them: floats as float32, integers as int32.

    Args:
        names: of the inputs, in the order of the arrays; further names are passed over.
        arrays: (N, ...), N at most `size`. size: the images that the function takes; zeros fill an array up to it.
    """
    return {name: _argument(array, size) for name, array in zip(names, arrays, strict=False)}


def _argument(array: NDArray[Any], size: int) -> NDArray[Any]:
    dtype = np.int32 if array.dtype.kind == "i" else np.float32
    if len(array) == size:
        return array.astype(dtype, copy=False)
    filled = np.zeros((size, *array.shape[1:]), dtype)
    filled[: len(array)] = array
    return filled
