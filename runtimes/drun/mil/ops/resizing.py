"""Other numbers of pixels: the last two axes of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.mil.ops import Array, Ints, check_size, operation

#: name -> the places of the output's pixels among the input's (sizes of input and output), as the definition of
#: resize_bilinear states them
GRIDS: dict[str, Callable[[int, int], NDArray[np.floating[Any]]]] = {
    "STRICT_ALIGN_CORNERS": lambda old, new: np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0),
    "ALIGN_CORNERS": lambda old, new: (
        np.arange(new) * ((old - 1) / (new - 1)) if new > 1 else np.array([(old - 1) / 2])
    ),
    "DEFAULT": lambda old, new: np.arange(new) * (old / new),
    "OFFSET_CORNERS": lambda old, new: (np.arange(new) + 0.5) * (max(1, old - 1) / new),
    "UNALIGN_CORNERS": lambda old, new: (np.arange(new) + 0.5) * (old / new) - 0.5,
}
#: What `resize` knows. Which pixel is the nearest one on the other grids is not documented.
RESIZES = {("NEAREST_NEIGHBOR", "DEFAULT"), *(("LINEAR", mode) for mode in GRIDS)}


@operation()
def upsample_nearest_neighbor(x: Array, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0) -> Array:
    """Place i of the result is place floor(i / factor) of x, as in PyTorch; Core ML documents the number of places."""
    if min(scale_factor_height, scale_factor_width) <= 0:
        raise ValueError(f"upsample_nearest_neighbor got {scale_factor_height:g} and {scale_factor_width:g}")
    check_size(x.size, scale_factor_height, scale_factor_width)
    for axis, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        x = _nearest_along(x, axis, _scaled(x.shape[axis], factor), 1 / factor)
    return x


@operation()
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    check_size(*x.shape[:-2], target_size_height, target_size_width)
    for axis, new in ((-2, target_size_height), (-1, target_size_width)):
        x = _nearest_along(x, axis, new, x.shape[axis] / new)
    return x


def _scaled(side: int, factor: float) -> int:
    """As coremltools declares it: of 5 times 2.6 in float32, which is 13, though 2.6 is less in float32."""
    return int(np.float32(side) * np.float32(factor))


def _nearest_along(x: Array, axis: int, new: int, step: float) -> Array:
    return np.take(x, np.floor(np.arange(new) * step).astype(int).clip(0, x.shape[axis] - 1), axis)


@operation()
def crop(x: Array, crop_height: Ints, crop_width: Ints) -> Array:
    """Without some rows at the top and the bottom, and some columns at the left and the right."""
    (top, bottom), (left, right) = crop_height, crop_width
    height, width = x.shape[-2:]
    if min(top, bottom, left, right) < 0 or top + bottom > height or left + right > width:
        raise ValueError(f"crop got {crop_height} and {crop_width} for {x.shape}")
    return x[..., top : height - bottom, left : width - right]


@operation()
def upsample_bilinear(
    x: Array, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0, align_corners: bool = True
) -> Array:
    return _upsampled(x, scale_factor_height, scale_factor_width, align_corners, half_pixel_centers=not align_corners)


@operation("upsample_bilinear", since=6)
def upsample_bilinear_centred(
    x: Array,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    is_centred = not align_corners if half_pixel_centers is None else half_pixel_centers
    return _upsampled(x, scale_factor_height, scale_factor_width, align_corners, is_centred)


def _upsampled(x: Array, by_height: float, by_width: float, align_corners: bool, half_pixel_centers: bool) -> Array:
    if align_corners and half_pixel_centers:
        raise ValueError("upsample_bilinear got both align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    return _linear(x, _scaled(x.shape[-2], by_height), _scaled(x.shape[-1], by_width), mode)


@operation()
def resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    return _linear(x, target_size_height, target_size_width, sampling_mode)


@operation(since=7)
def resize(
    x: Array,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """shape: the last `resized_dims` of the result; 0: as many as x has."""
    if resized_dims not in (1, 2) or (interpolation_mode, sampling_mode) not in RESIZES:
        raise ValueError(f"resize got {resized_dims} axes by {interpolation_mode} and {sampling_mode}, expected 1 or 2")
    sides = [x.shape[axis - resized_dims] if side == 0 else side for axis, side in enumerate(shape[-resized_dims:])]
    height = sides[0] if resized_dims == 2 else x.shape[-2]
    if interpolation_mode == "LINEAR":
        return _linear(x, height, sides[-1], sampling_mode)
    return resize_nearest_neighbor(x, height, sides[-1])


def _linear(x: Array, height: int, width: int, mode: str) -> Array:
    if mode not in GRIDS:
        raise ValueError(f"sampling_mode got '{mode}', expected one of {', '.join(GRIDS)}")
    check_size(*x.shape[:-2], height, width)
    for axis, new in ((-2, height), (-1, width)):
        x = _linear_along(x, axis, new, GRIDS[mode])
    return x


def _linear_along(x: Array, axis: int, new: int, grid: Callable[[int, int], NDArray[np.floating[Any]]]) -> Array:
    old = x.shape[axis]
    places = grid(old, new).clip(0, old - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, old - 1)
    share = (places - below).astype(np.float32).reshape(-1, *[1] * (-1 - axis))
    return np.take(x, below, axis) * (1 - share) + np.take(x, above, axis) * share
