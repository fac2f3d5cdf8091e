"""Updates of some elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from drun.mil.ops import Array, Ints, axis_of, check_indices, operation

#: mode -> what becomes of an element and its update. One that is named twice is updated twice.
MODES = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


@operation()
def scatter(data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add") -> Array:
    """indices: of rows along the axis."""
    return _rows(data, indices, updates, axis, mode, may_be_negative=True)


@operation("scatter", since=7)
def scatter_checked(
    data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add", validate_indices: bool = False
) -> Array:
    return _rows(data, indices, updates, axis, mode, may_be_negative=False)


def _rows(data: Array, indices: Array, updates: Array, axis: int, mode: str, may_be_negative: bool) -> Array:
    along = axis_of(axis, data.ndim)
    rows = check_indices(indices, data.shape[along], may_be_negative)
    shape = (*data.shape[:along], *indices.shape, *data.shape[along + 1 :])
    return _updated(data, (*[slice(None)] * along, rows), updates, shape, mode)


@operation()
def scatter_along_axis(data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add") -> Array:
    """indices: of elements along the axis, each in its own row."""
    return _elements(data, indices, updates, axis, mode, may_be_negative=True)


@operation("scatter_along_axis", since=7)
def scatter_along_axis_checked(
    data: Array, indices: Array, updates: Array, axis: int = 0, mode: str = "add", validate_indices: bool = False
) -> Array:
    return _elements(data, indices, updates, axis, mode, may_be_negative=False)


def _elements(data: Array, indices: Array, updates: Array, axis: int, mode: str, may_be_negative: bool) -> Array:
    along = axis_of(axis, data.ndim)
    places = [*np.ogrid[tuple(slice(side) for side in indices.shape)]]
    places[along] = check_indices(indices, data.shape[along], may_be_negative)
    return _updated(data, tuple(places), updates, indices.shape, mode)


@operation()
def scatter_nd(data: Array, indices: Array, updates: Array, mode: str = "add") -> Array:
    """The last axis of `indices` names a place on the first axes of data."""
    return _places(data, indices, updates, mode, may_be_negative=True)


@operation("scatter_nd", since=7)
def scatter_nd_checked(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: bool = False
) -> Array:
    return _places(data, indices, updates, mode, may_be_negative=False)


def _places(data: Array, indices: Array, updates: Array, mode: str, may_be_negative: bool) -> Array:
    parts = zip(np.moveaxis(indices, -1, 0), data.shape, strict=False)
    places = tuple(check_indices(one, side, may_be_negative) for one, side in parts)
    shape = (*indices.shape[:-1], *data.shape[indices.shape[-1] :])
    return _updated(data, places, updates, shape, mode)


def _updated(data: Array, places: Any, updates: Array, shape: Ints, mode: str) -> Array:
    if mode not in (*MODES, "update"):
        raise ValueError(f"mode got '{mode}', expected one of {', '.join(MODES)}, update")
    if updates.shape != shape:
        raise ValueError(f"updates got {updates.shape}, expected {shape}")
    out = data.copy()
    if mode == "update":
        out[places] = updates
    else:
        MODES[mode].at(out, places, updates)
    return out
