"""Pools, over one to three axes of space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Ints, operation
from drun.mil.ops.convolution import Padding, padded, padding_of


@dataclass(frozen=True)
class Pool:
    """The windows of a pool.

    By ceil_mode the last window may reach beyond the input and its padding, which is what PyTorch's does, too.
    """

    kernel: Ints
    strides: Ints
    padding: Padding
    beyond: Padding  # of which elements a window holds none

    def filled(self, x: Array, value: float) -> Array:
        """x (N, C, *D), with a value in its padding and beyond it."""
        return padded(padded(x, self.padding, value), self.beyond, value)

    def windows(self, x: Array) -> Array:
        """(N, C, *D) -> (N, C, *places, *kernel): a view."""
        views: Any = sliding_window_view(x, self.kernel, axis=tuple(range(2, x.ndim)))  # type: ignore[call-overload]
        return views[(slice(None), slice(None), *(slice(None, None, step) for step in self.strides))]

    @property
    def axes(self) -> tuple[int, ...]:
        """Those of a window."""
        rank = len(self.kernel)
        return tuple(range(2 + rank, 2 + 2 * rank))

    def counts(self, sides: Ints, with_padding: bool) -> Array:
        """(1, 1, *places): the elements that each window holds."""
        inner = padded(np.ones((1, 1, *sides), np.float32), self.padding, float(with_padding))
        return self.windows(padded(inner, self.beyond)).sum(axis=self.axes)


@operation()
def max_pool(
    x: Array,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Array:
    pool = _pool(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool.windows(pool.filled(x, -np.inf)).max(axis=pool.axes)


@operation()
def avg_pool(
    x: Array,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
    *,
    numerics: Numerics,
) -> Array:
    pool = _pool(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    sums = numerics.sum(pool.windows(pool.filled(x, 0.0)), pool.axes, keep_dims=False)
    return sums / pool.counts(x.shape[2:], not exclude_padding_from_average)


@operation()
def l2_pool(
    x: Array,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
    *,
    numerics: Numerics,
) -> Array:
    pool = _pool(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    squares = pool.filled(numerics.step(np.square(x)), 0.0)
    return np.sqrt(numerics.sum(pool.windows(squares), pool.axes, keep_dims=False))


def _pool(sides: Ints, kernel: Ints, strides: Ints | None, pad_type: str, pad: Ints | None, ceil_mode: bool) -> Pool:
    steps = strides or (1,) * len(kernel)
    padding = padding_of(sides, kernel, steps, pad_type, pad)
    if any(max(pair) >= size for pair, size in zip(padding, kernel, strict=True)):
        raise ValueError(f"a pool got the padding {padding}, expected less than its kernel {kernel}")
    if not ceil_mode:
        return Pool(kernel, steps, padding, [(0, 0)] * len(kernel))
    if pad_type not in ("valid", "custom") or any(low != high for low, high in padding):
        raise ValueError(f"ceil_mode got the padding {pad_type} {padding}, expected as much at the start as at the end")
    beyond = [_beyond(*one) for one in zip(sides, kernel, steps, padding, strict=True)]
    return Pool(kernel, steps, padding, [(0, extra) for extra in beyond])


def _beyond(side: int, size: int, step: int, padding: tuple[int, int]) -> int:
    """How far the last window reaches beyond the padding. One that begins there is none."""
    places = -((size - side - sum(padding)) // step) + 1
    if (places - 1) * step >= side + padding[0]:
        places -= 1
    return max(0, (places - 1) * step + size - side - sum(padding))
