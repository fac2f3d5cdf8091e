"""Constants that are stored in fewer bits, and quantisation of values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from drun.mil.blobs import unpacked
from drun.mil.ops import Array, Ints, axis_of, float32, operation, per_place


@operation(since=6)
def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    if output_dtype != "fp32":
        raise ValueError(f"constexpr_cast got {output_dtype}, expected fp32")
    return source_val


@operation(since=6)
def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Array:
    """scale (q - zero_point), a number for all or one for each place of an axis."""
    offset, factor = (per_place(float32(one), quantized_data, axis) for one in (zero_point, scale))
    return factor * (float32(quantized_data) - offset)


@operation("constexpr_lut_to_dense", since=6)
def constexpr_packed_lut_to_dense(indices: Array, lut: Array, shape: Ints) -> Array:
    """One palette for all; the indices are packed into bytes."""
    bits = int(lut.size).bit_length() - 1
    if lut.size != 1 << bits or not 1 <= bits <= 8:
        raise ValueError(f"constexpr_lut_to_dense got a palette of {lut.size}, expected a power of 2 up to 256")
    return lut[unpacked(np.ascontiguousarray(indices), bits, math.prod(shape))].reshape(shape)


def _vectors(indices: Array, lut: Array, vector_axis: int | None = None) -> list[int]:
    along = -1 if vector_axis is None else axis_of(vector_axis, indices.ndim)
    return [side * lut.shape[-1] if axis == along else side for axis, side in enumerate(indices.shape)]


@operation(since=8, shape=_vectors)
def constexpr_lut_to_dense(indices: Array, lut: Array, vector_axis: int | None = None) -> Array:
    """Palettes (*groups of each axis, entries, length of a vector); a vector lies along `vector_axis`."""
    return _looked_up(indices, lut, vector_axis)


def _looked_up(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    rank, length = indices.ndim, lut.shape[-1]
    if lut.ndim != rank + 2 or any(side % groups for side, groups in zip(indices.shape, lut.shape, strict=False)):
        raise ValueError(f"constexpr_lut_to_dense got palettes {lut.shape} for indices {indices.shape}")
    if vector_axis is None and length > 1:
        raise ValueError("constexpr_lut_to_dense got vectors and no vector_axis")
    if indices.size and indices.max() >= lut.shape[-2]:
        raise ValueError(f"constexpr_lut_to_dense got the index {indices.max()}, its palettes have {lut.shape[-2]}")
    groups = np.ix_(*(np.arange(side) // (side // num) for side, num in zip(indices.shape, lut.shape, strict=False)))
    vectors = lut[(*groups, indices)]  # (*shape, length)
    if vector_axis is None or length == 1:
        return vectors[..., 0]
    along = axis_of(vector_axis, rank)
    merged = np.moveaxis(vectors, -1, along + 1)
    return merged.reshape(_vectors(indices, lut, vector_axis))


@operation(since=8)
def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale (data - offset), a number for each block; the blocks follow from the shapes."""
    return _shifted_and_scaled(data, scale, offset)


def _shifted_and_scaled(data: Array, scale: Array, offset: Array | None) -> Array:
    shifted = float32(data)
    if offset is not None:
        shifted = shifted - _spread(float32(offset), data.shape)
    return _spread(float32(scale), data.shape) * shifted


def _spread(values: Array, shape: Sequence[int]) -> Array:
    """A value for each block as one for each element."""
    if values.ndim != len(shape) or any(side % max(1, num) for side, num in zip(shape, values.shape, strict=True)):
        raise ValueError(f"constexpr_blockwise_shift_scale got {values.shape} for {tuple(shape)}")
    for axis, side in enumerate(shape):
        if 1 < values.shape[axis] < side:
            values = values.repeat(side // values.shape[axis], axis)
    return values


@operation("constexpr_sparse_to_dense", since=6)
def constexpr_packed_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Ints) -> Array:
    """The mask has a bit for each element, packed into bytes."""
    return _dense(nonzero_data, unpacked(np.ascontiguousarray(mask), 1, math.prod(shape)).reshape(shape))


@operation(since=8)
def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array) -> Array:
    return _dense(nonzero_data, mask)


def _dense(nonzero_data: Array, mask: Array) -> Array:
    out = np.zeros(mask.shape, nonzero_data.dtype)
    if np.count_nonzero(mask) != nonzero_data.size:
        raise ValueError(f"a sparse constant has {nonzero_data.size} values for {np.count_nonzero(mask)} places")
    out[mask != 0] = nonzero_data
    return out


def _sparse_vectors(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> list[int]:
    return _vectors(indices_mask, lut, vector_axis)


@operation(since=8, shape=_sparse_vectors)
def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> tuple[Array, Array]:
    """The mask and the values of what the palettes give for the places of the mask."""
    dense = _looked_up(_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat(lut.shape[-1], axis_of(vector_axis, mask.ndim))
    return mask, dense[mask != 0]


@operation(since=8)
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """The mask and the scaled values of its places."""
    dense = _shifted_and_scaled(_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


@operation(since=7)
def quantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
    output_dtype: str = "int8",
) -> Array:
    """round(x / scale) + zero_point, cut to the range of the result."""
    factor, shift = _along(input, scale, axis), _along(input, zero_point, axis)
    low, high = (-128, 127) if output_dtype == "int8" else (0, 255)
    found = np.rint(input / factor) + (0 if shift is None else shift)
    return np.clip(found, low, high).astype(output_dtype)


@operation(since=7)
def dequantize(input: Array, scale: Array, zero_point: Array | None = None, axis: int | None = None) -> Array:
    """scale (q - zero_point)."""
    factor, shift = _along(input, scale, axis), _along(input, zero_point, axis)
    return factor * (float32(input) if shift is None else float32(input) - shift)


def _along(x: Array, values: Array | None, axis: int | None) -> Array | None:
    if values is None or values.ndim == 0:
        return None if values is None else float32(values)
    return per_place(float32(values), x, 0 if axis is None else axis)
