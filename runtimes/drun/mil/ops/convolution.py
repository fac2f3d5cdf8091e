"""Convolutions, over one to three axes of space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from drun.mil.ops import Array, Ints, check_size, operation

#: The forms of padding: none, that of `pad`, and as much as keeps the size, the odd one at the end or at the start.
PAD_TYPES = ("valid", "custom", "same", "same_lower")
#: (before, after) of each axis of space
Padding = Sequence[tuple[int, int]]


def _conv_shape(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> list[int]:
    ones = (1,) * (x.ndim - 2)
    _, sides = _placed(x.shape[2:], weight.shape[2:], strides or ones, pad_type, pad, dilations or ones)
    return [len(x), weight.shape[0], *sides]


@operation(shape=_conv_shape)
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Array:
    """x (N, C_in, *D), weight (C_out, C_in / groups, *K)."""
    num, kernel = x.ndim - 2, weight.shape[2:]
    strides, dilations = strides or (1,) * num, dilations or (1,) * num
    padding, sides = _placed(x.shape[2:], kernel, strides, pad_type, pad, dilations)
    if min(sides) < 1 or x.shape[1] != groups * weight.shape[1] or weight.shape[0] % groups:
        raise ValueError(f"conv got {x.shape}, weights {weight.shape} and {groups} groups")
    given = padded(x, padding)
    grouped = given.reshape(len(x), groups, -1, *given.shape[2:])
    matrices = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *kernel)
    out = np.zeros((len(x), groups, matrices.shape[1], math.prod(sides)), np.float32)
    for tap in product(*map(range, kernel)):
        places = _places(tap, sides, strides, dilations)
        _add_product(out, _at(matrices, tap), _at(grouped, places).reshape(*grouped.shape[:3], -1))
    return _with_bias(out.reshape(len(x), weight.shape[0], *sides), bias)


def _placed(
    sides: Ints, kernel: Ints, strides: Ints, pad_type: str, pad: Ints | None, dilations: Ints
) -> tuple[Padding, list[int]]:
    """The padding of a convolution, and the sides of its result."""
    extents = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    padding = padding_of(sides, extents, strides, pad_type, pad)
    places = zip(sides, padding, extents, strides, strict=True)
    return padding, [(side + sum(pair) - extent) // step + 1 for side, pair, extent, step in places]


def _places(tap: Sequence[int], sides: Sequence[int], strides: Ints, dilations: Ints) -> Iterator[slice]:
    """Where one weight of a kernel looks, for all places of the output."""
    for index, side, stride, dilation in zip(tap, sides, strides, dilations, strict=True):
        start = index * dilation
        yield slice(start, start + (side - 1) * stride + 1, stride)


def _at(array: Any, places: Iterable[int | slice]) -> Array:
    """A view of the array: places on its last axes."""
    return array[(..., *places)]


def _add_product(out: Array, matrix: Array, x: Array) -> None:
    """Add matrix (G, O, I) times x (N, G, I, L) to out (N, G, O, L)."""
    if matrix.shape[2] == 1:  # each channel by itself
        out += matrix * x
    else:
        out += matrix @ x


def _with_bias(out: Array, bias: Array | None) -> Array:
    if bias is not None:
        out += bias.reshape(-1, *[1] * (out.ndim - 2))
    return out


@operation()
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Array:
    """x (N, C_in, *D), weight (C_in, C_out / groups, *K); output_shape: of the whole result."""
    num = x.ndim - 2
    strides, dilations = strides or (1,) * num, dilations or (1,) * num
    kernel, sides = weight.shape[2:], x.shape[2:]
    if x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise ValueError(f"conv_transpose got {x.shape}, weights {weight.shape} and {groups} groups")
    full = [
        (side - 1) * stride + (size - 1) * dilation + 1
        for side, stride, size, dilation in zip(sides, strides, kernel, dilations, strict=True)
    ]
    before, wanted = _cut(full, sides, strides, pad_type, pad, output_shape)
    # What an output shape asks for beyond the last weight of the last place is zero.
    room = [max(side, start + end) for side, start, end in zip(full, before, wanted, strict=True)]
    check_size(len(x), groups, weight.shape[1], *room)
    matrices = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *kernel)
    flat = x.reshape(len(x), groups, weight.shape[0] // groups, -1)
    out = np.zeros((len(x), groups, weight.shape[1], *room), np.float32)
    for tap in product(*map(range, kernel)):
        part = np.swapaxes(_at(matrices, tap), 1, 2) @ flat
        view = _at(out, _places(tap, sides, strides, dilations))
        view += part.reshape(*part.shape[:3], *sides)
    out = out.reshape(len(x), -1, *room)
    return _with_bias(_at(out, (slice(a, a + n) for a, n in zip(before, wanted, strict=True))), bias)


def _cut(
    full: Sequence[int], sides: Ints, strides: Ints, pad_type: str, pad: Ints | None, output_shape: Ints | None
) -> tuple[list[int], list[int]]:
    """Of the whole result, where the part begins that is given, and its sides."""
    if pad_type == "custom":
        pairs = _pairs(pad, len(full))
    elif pad_type == "valid":
        pairs = [(0, 0)] * len(full)
    elif pad_type == "same":
        extra = [max(0, side - old * stride) for side, old, stride in zip(full, sides, strides, strict=True)]
        pairs = [(one // 2, one - one // 2) for one in extra]
    else:
        raise ValueError(f"pad_type got '{pad_type}', expected valid, custom or same")
    found = [side - a - b for side, (a, b) in zip(full, pairs, strict=True)]
    if pad_type == "same":
        found = [old * stride for old, stride in zip(sides, strides, strict=True)]
    return [a for a, _ in pairs], [*output_shape[2:]] if output_shape else found


# ---- padding --------------------------------------------------------------------------------------------


def _pairs(pad: Ints | None, num: int) -> list[tuple[int, int]]:
    given = pad or (0,) * 2 * num
    if len(given) != 2 * num:
        raise ValueError(f"pad got {given}, expected two numbers for each of {num} axes")
    return [(given[2 * axis], given[2 * axis + 1]) for axis in range(num)]


def padding_of(
    sides: Sequence[int], extents: Sequence[int], strides: Ints, pad_type: str, pad: Ints | None
) -> list[tuple[int, int]]:
    if pad_type not in PAD_TYPES:
        raise ValueError(f"pad_type got '{pad_type}', expected one of {', '.join(PAD_TYPES)}")
    if pad_type == "custom":
        return _pairs(pad, len(sides))
    if pad_type == "valid":
        return [(0, 0)] * len(sides)
    found = []
    for side, extent, stride in zip(sides, extents, strides, strict=True):
        extra = max(0, (-(-side // stride) - 1) * stride + extent - side)
        less = extra // 2
        found.append((less, extra - less) if pad_type == "same" else (extra - less, less))
    return found


def padded(x: Array, padding: Padding, value: float = 0.0) -> Array:
    if not any(map(any, padding)):
        return x
    check_size(*x.shape[:2], *(side + sum(pair) for side, pair in zip(x.shape[2:], padding, strict=True)))
    return np.pad(x, [(0, 0), (0, 0), *padding], constant_values=value)
