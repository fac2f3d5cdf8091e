"""In which numbers a program is computed: three modes, from how exact it could be to how rough a device may be.

- `ideal`: every float is float32, whatever its declared type. It proves the graph.
- `declared`: an operation computes in float32, and its result is rounded to the declared type: as a processor or a
  device does that adds up in more bits than it stores.
- `strict16`: what is declared fp16 is rounded after each step within an operation, too, such as the squares and sums of
  a norm, whose elements are added one after the other. Products of matrices and convolutions are added up in float32,
  as on the Neural Engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MODES = ("ideal", "declared", "strict16")
#: The largest number of fp16, and its smallest normal one.
FP16_MAX, FP16_TINY = 65504.0, 2.0**-14
#: Bits of float32: where its exponent is; the powers of two of fp16's smallest and largest numbers, and one above; and
#: what makes a power of two 3 * 2^12 times as large.
EXPONENT = np.uint32(0xFF << 23)
SMALLEST_POWER, LARGEST_POWER = np.uint32((127 - 14) << 23), np.uint32((127 + 16) << 23)
TIMES_3_2_12 = np.uint32((13 << 23) | (1 << 22))
#: Elements that are rounded at once: they stay in the processor's cache.
BLOCK = 1 << 16


@dataclass(frozen=True)
class Numerics:
    """The numbers within one operation."""

    is_half: bool  # whether each step is rounded to fp16

    def step(self, x: Floats) -> Floats:
        """The result of a step."""
        return half(x) if self.is_half else x

    def sum(self, x: Floats, axes: tuple[int, ...] | int, keep_dims: bool = True) -> Floats:
        return self._reduced(np.add, x, axes, keep_dims)

    def prod(self, x: Floats, axes: tuple[int, ...] | int, keep_dims: bool = True) -> Floats:
        return self._reduced(np.multiply, x, axes, keep_dims)

    def _reduced(self, function: np.ufunc, x: Floats, axes: tuple[int, ...] | int, keep_dims: bool) -> Floats:
        if self.is_half:
            return _one_by_one(function, x, axes if isinstance(axes, tuple) else (axes,), keep_dims)
        return np.asarray(function.reduce(x.astype(np.float32, copy=False), axis=axes, keepdims=keep_dims), np.float32)

    def cumsum(self, x: Floats, axis: int) -> Floats:
        return _accumulated(np.add, x, axis) if self.is_half else np.cumsum(x, axis, dtype=np.float32)

    def mean(self, x: Floats, axes: tuple[int, ...] | int, keep_dims: bool = True) -> Floats:
        total = self.sum(x, axes, keep_dims)
        return self.step(total / np.float32(x.size / max(1, total.size)))


def _one_by_one(function: np.ufunc, x: Floats, axes: tuple[int, ...], keep_dims: bool) -> Floats:
    """A reduction in fp16, one element after the other.

    numpy's own adds up an axis in parts or in float32, as the array happens to lie in memory.
    """
    rest = x.ndim - len(axes)
    moved = np.moveaxis(x, axes, range(rest, x.ndim))
    rows = moved.reshape(*moved.shape[:rest], math.prod(moved.shape[rest:]))
    if rows.shape[-1]:
        total = _accumulated(function, rows, -1)[..., -1]
    else:
        total = np.full(rows.shape[:-1], function.identity, np.float32)
    return np.expand_dims(total, axes) if keep_dims else total


def _accumulated(function: np.ufunc, x: Floats, axis: int) -> Floats:
    """All partial results of a reduction in fp16 along an axis."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: NDArray[np.float16] = function.accumulate(x.astype(np.float16), axis=axis)
    return found.astype(np.float32)


def half(x: Floats) -> Floats:
    """The nearest numbers that fp16 holds, ties to even; infinity above its range.

    Added to 1.5 * 2^13 times its power of two, a number loses the digits that fp16 does not hold; the difference brings
    the others back. numpy's own casts take five times as long.
    """
    found = np.empty(x.shape, np.float32)
    source, target = np.ascontiguousarray(x).reshape(-1), found.reshape(-1)
    scratch = np.empty(min(BLOCK, source.size), np.uint32)
    with np.errstate(invalid="ignore"):  # of what is no number
        for start in range(0, source.size, BLOCK):
            part = slice(start, start + BLOCK)
            _round(source[part], target[part], scratch)
    return found


def _round(given: Floats, rounded: Floats, scratch: NDArray[np.uint32]) -> None:
    magic = scratch[: given.size]
    np.bitwise_and(given.view(np.uint32), EXPONENT, out=magic)
    np.clip(magic, SMALLEST_POWER, LARGEST_POWER, out=magic)
    np.add(magic, TIMES_3_2_12, out=magic)
    np.add(given, magic.view(np.float32), out=rounded)
    np.subtract(rounded, magic.view(np.float32), out=rounded)
    np.copysign(rounded, given, out=rounded)  # of a zero
    if not (rounded.max() <= FP16_MAX and rounded.min() >= -FP16_MAX):
        rounded[rounded > FP16_MAX] = np.inf
        rounded[rounded < -FP16_MAX] = -np.inf
