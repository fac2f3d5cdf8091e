"""Slices, lookups, orders, and arrays made of nothing."""

from __future__ import annotations

import numpy as np

from drun.mil.numerics import Numerics
from drun.mil.ops import Array, Bools, Ints, axis_of, check_indices, check_size, operation
from drun.mil.types import HELD


@operation()
def slice_by_index(
    x: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Array:
    return x[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@operation(since=8)
def slice_update(
    x: Array,
    update: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Array:
    out = x.copy()
    out[_slices(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return out


def _slices(
    rank: int,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[slice | int, ...]:
    """A mask stands for the array's own begin or end; what is squeezed is one place, and its axis goes."""
    no, ones = (False,) * rank, (1,) * rank
    parts = zip(begin, end, stride or ones, begin_mask or no, end_mask or no, squeeze_mask or no, strict=True)
    found: list[slice | int] = []
    for first, last, step, is_open, is_open_ended, is_one in parts:
        start = None if is_open else first
        found.append((start or 0) if is_one else slice(start, None if is_open_ended else last, step))
    if len(found) != rank:
        raise ValueError(f"a slice got {len(found)} axes of {rank}")
    return tuple(found)


@operation()
def slice_by_size(x: Array, begin: Ints, size: Ints) -> Array:
    """-1: the rest."""
    parts = zip(begin, size, x.shape, strict=True)
    return x[tuple(slice(a, side if n == -1 else a + n) for a, n, side in parts)]


def _rows(x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Ints:
    along = axis_of(axis, x.ndim)
    return (*x.shape[:along], *indices.shape[batch_dims:], *x.shape[along + 1 :])


@operation(shape=_rows)
def gather(x: Array, indices: Array, axis: int = 0) -> Array:
    return np.take(x, check_indices(indices, x.shape[axis_of(axis, x.ndim)], True), axis)


@operation("gather", since=6, shape=_rows)
def gather_in_batches(x: Array, indices: Array, axis: int = 0, batch_dims: int = 0) -> Array:
    return _gathered(x, check_indices(indices, x.shape[axis_of(axis, x.ndim)], True), axis, batch_dims)


@operation("gather", since=7, shape=_rows)
def gather_checked(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    """From here on a negative index is undefined, so it is an error."""
    return _gathered(x, check_indices(indices, x.shape[axis_of(axis, x.ndim)], False), axis, batch_dims)


def _gathered(x: Array, indices: Array, axis: int, batch_dims: int) -> Array:
    along = axis_of(axis, x.ndim)
    if batch_dims == 0:
        return np.take(x, indices, along)
    rows = [_gathered(one, places, along - 1, batch_dims - 1) for one, places in zip(x, indices, strict=True)]
    return np.stack(rows)


def _picked(x: Array, indices: Array, axis: int = 0, validate_indices: bool = False) -> Ints:
    sides = [*x.shape]
    sides[axis_of(axis, x.ndim)] = 1
    return np.broadcast_shapes(sides, indices.shape)


@operation(shape=_picked)
def gather_along_axis(x: Array, indices: Array, axis: int = 0) -> Array:
    return np.take_along_axis(x, check_indices(indices, x.shape[axis_of(axis, x.ndim)], True).astype(np.int64), axis)


@operation("gather_along_axis", since=7, shape=_picked)
def gather_along_axis_checked(x: Array, indices: Array, axis: int = 0, validate_indices: bool = False) -> Array:
    return np.take_along_axis(x, check_indices(indices, x.shape[axis_of(axis, x.ndim)], False).astype(np.int64), axis)


def _at_places(x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False) -> Ints:
    return (*indices.shape[:-1], *x.shape[batch_dims + indices.shape[-1] :])


@operation(shape=_at_places)
def gather_nd(x: Array, indices: Array) -> Array:
    """The last axis of `indices` names a place on the first axes of x."""
    places = zip(np.moveaxis(indices, -1, 0), x.shape, strict=False)
    return x[tuple(check_indices(one, size, True) for one, size in places)]


@operation("gather_nd", since=6, shape=_at_places)
def gather_nd_in_batches(x: Array, indices: Array, batch_dims: int = 0) -> Array:
    if batch_dims == 0:
        return np.asarray(gather_nd(x, indices))
    return np.stack([gather_nd_in_batches(one, i, batch_dims - 1) for one, i in zip(x, indices, strict=True)])


@operation("gather_nd", since=7, shape=_at_places)
def gather_nd_checked(x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False) -> Array:
    check_indices(indices, max(x.shape, default=1), False)
    return np.asarray(gather_nd_in_batches(x, indices, batch_dims))


@operation()
def topk(x: Array, k: int = 1, axis: int = -1, ascending: bool = False) -> tuple[Array, Array]:
    return _topk(x, k, axis, ascending)


@operation("topk", since=6)
def topk_sorted(
    x: Array, k: int = 1, axis: int = -1, ascending: bool = False, sort: bool = True, return_indices: bool = True
) -> tuple[Array, ...]:
    values, places = _topk(x, k, axis, ascending)
    return (values, places) if return_indices else (values,)


@operation("topk", since=7)
def topk_typed(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Array, ...]:
    values, places = _topk(x, k, axis, ascending)
    return (values, places.astype(HELD[output_indices_dtype])) if return_indices else (values,)


def _topk(x: Array, k: int, axis: int, ascending: bool) -> tuple[Array, Array]:
    """Of equal ones the first comes first."""
    along = axis_of(axis, x.ndim)
    size = x.shape[along]
    if not -1 <= k <= size:
        raise ValueError(f"topk got {k}, expected at most the {size} elements of the axis")
    places = np.take(_order(x, along, ascending), np.arange(size if k == -1 else k), along)
    return np.take_along_axis(x, places, along), places.astype(np.int32)


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """The places of the elements in their order, of equal ones the first first.

    Integers have no negatives of the least one, so a descent is an ascent from behind.
    """
    if ascending:
        return np.argsort(x, axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


@operation()
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    return _order(x, axis_of(axis, x.ndim), ascending).astype(np.int32)


@operation()
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False, *, numerics: Numerics) -> Array:
    """exclusive: each place has the sum of those before it."""
    along = axis_of(axis, x.ndim)
    out = np.flip(x, along) if reverse else x
    if exclusive:
        start = np.zeros_like(out.take([0], along))
        out = np.concatenate([start, out.take(np.arange(x.shape[along] - 1), along)], along)
    out = numerics.cumsum(out, along) if x.dtype.kind == "f" else np.cumsum(out, along, dtype=x.dtype)
    return np.flip(out, along) if reverse else out


@operation()
def one_hot(
    indices: Array,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Array | None = None,
    off_value: Array | None = None,
) -> Array:
    on, off = (np.int32(1) if on_value is None else on_value), (np.int32(0) if off_value is None else off_value)
    check_size(indices.size, one_hot_vector_size)
    hits = indices[..., None] == np.arange(one_hot_vector_size)
    return np.moveaxis(np.where(hits, on, off), -1, axis)


@operation()
def fill(shape: Ints, value: Array | None = None) -> Array:
    check_size(*shape)
    return np.full(shape, np.float32(0) if value is None else value.reshape(()))


@operation(since=6)
def fill_like(ref_tensor: Array, value: Array | None = None) -> Array:
    return np.full(ref_tensor.shape, np.float32(0) if value is None else value.reshape(()))


@operation()
def range_1d(end: Array, start: Array, step: Array) -> Array:
    check_size((end.item() - start.item()) / step.item())
    return np.arange(start.item(), end.item(), step.item()).astype(start.dtype)


@operation()
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    """-1: all diagonals of this side stay."""
    rows, columns = np.indices(x.shape[-2:])
    is_kept = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(is_kept, x, np.zeros((), x.dtype))
