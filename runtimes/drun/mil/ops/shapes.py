"""Operations that move elements, and compute none."""

from __future__ import annotations

import math

import numpy as np

from drun.mil.ops import Array, Arrays, Ints, axes_of, axis_of, check_size, operation


@operation()
def reshape(x: Array, shape: Ints) -> Array:
    """-1: what is left. 0: as many as x has at this place."""
    if 0 in shape and len(shape) != x.ndim:
        raise ValueError(f"reshape got {shape} for {x.shape}: zeros need as many sides")
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)])


@operation("reshape", since=7)
def reshape_from_the_right(x: Array, shape: Ints) -> Array:
    """Zeros are counted from the right, and are 1 where x has no such side."""
    back = [x.shape[axis - len(shape)] if len(shape) - axis <= x.ndim else 1 for axis in range(len(shape))]
    return x.reshape([old if side == 0 else side for side, old in zip(shape, back, strict=True)])


@operation(since=6)
def reshape_like(x: Array, ref_tensors: Arrays, begins: Arrays, ends: Arrays, end_masks: Arrays) -> Array:
    """Sides begin..end of each reference, one after the other."""
    sides: list[int] = []
    for ref, begin, end, is_open in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sides += ref.shape[begin.item() : None if is_open.item() else end.item()]
    return x.reshape(sides)


@operation()
def expand_dims(x: Array, axes: Ints) -> Array:
    """axes: of the result."""
    return np.expand_dims(x, axes)


@operation()
def squeeze(x: Array, axes: Ints | None = None) -> Array:
    """An axis that has more than one element stays."""
    along = axes_of(axes, x.ndim)
    return x.reshape([side for axis, side in enumerate(x.shape) if axis not in along or side != 1])


@operation()
def transpose(x: Array, perm: Ints) -> Array:
    return x.transpose(perm)


def _stacked(values: Arrays, axis: int) -> list[int]:
    sides = [*values[0].shape]
    place = axis_of(axis, len(sides) + 1)
    return [*sides[:place], len(values), *sides[place:]]


@operation(shape=_stacked)
def stack(values: Arrays, axis: int) -> Array:
    return np.stack(values, axis)


def _joined(values: Arrays, axis: int, interleave: bool = False) -> list[int]:
    sides, along = [*values[0].shape], axis_of(axis, values[0].ndim)
    return [*sides[:along], sum(one.shape[along] for one in values), *sides[along + 1 :]]


@operation(shape=_joined)
def concat(values: Arrays, axis: int, interleave: bool = False) -> Array:
    if not interleave:
        return np.concatenate(values, axis)
    along = axis_of(axis, values[0].ndim)
    together = np.stack(values, along + 1)
    return together.reshape(*values[0].shape[:along], -1, *values[0].shape[along + 1 :])


@operation()
def split(x: Array, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Array, ...]:
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("split got neither num_splits nor split_sizes")
        return tuple(np.split(x, num_splits, axis))
    if sum(split_sizes) != x.shape[axis_of(axis, x.ndim)]:
        raise ValueError(f"split got the sizes {split_sizes} for {x.shape}")
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis))


@operation()
def tile(x: Array, reps: Ints) -> Array:
    check_size(x.size, *reps)
    return np.tile(x, reps)


@operation()
def reverse(x: Array, axes: Ints | None = None) -> Array:
    return np.flip(x, axes_of(axes, x.ndim))


@operation()
def flatten2d(x: Array, axis: int = 1) -> Array:
    place = axis if axis >= 0 else axis + x.ndim
    return x.reshape(math.prod(x.shape[:place]), -1)


@operation()
def shape(x: Array) -> Array:
    return np.array(x.shape, np.int32)


@operation()
def pad(x: Array, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Array:
    """Pairs of the last axes."""
    num = len(pad) // 2
    pairs = [(0, 0)] * (x.ndim - num) + [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(num)]
    check_size(*(side + sum(pair) for side, pair in zip(x.shape, pairs, strict=True)))
    if mode == "constant":
        return np.pad(x, pairs, constant_values=constant_val)
    if mode == "reflect":
        return np.pad(x, pairs, "reflect")
    if mode == "replicate":
        return np.pad(x, pairs, "edge")
    raise ValueError(f"pad got the mode '{mode}', expected constant, reflect or replicate")


@operation()
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """(N, C r^2, H, W) -> (N, C, r H, r W) (Shi et al. 2016)."""
    num, channels, height, width = x.shape
    r = upscale_factor
    parts = x.reshape(num, channels // (r * r), r, r, height, width)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(num, channels // (r * r), height * r, width * r)


@operation(since=6)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """The reverse of pixel_shuffle."""
    num, channels, height, width = x.shape
    r = downscale_factor
    parts = x.reshape(num, channels, height // r, r, width // r, r)
    return parts.transpose(0, 1, 3, 5, 2, 4).reshape(num, channels * r * r, height // r, width // r)


@operation()
def depth_to_space(x: Array, block_size: int) -> Array:
    """With one channel of the result it is pixel_shuffle. The order of more is not documented."""
    if x.shape[1] != block_size**2:
        raise ValueError("depth_to_space of several channels: their order is not documented, use pixel_shuffle")
    return np.asarray(pixel_shuffle(x, block_size))


@operation()
def space_to_depth(x: Array, block_size: int) -> Array:
    """With one channel it is pixel_unshuffle. The order of more is not documented."""
    if x.shape[1] != 1:
        raise ValueError("space_to_depth of several channels: their order is not documented, use pixel_unshuffle")
    return np.asarray(pixel_unshuffle(x, block_size))
