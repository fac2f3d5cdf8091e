"""All training images as one uint8 array, decoded once, before the first step of the first run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun import cache
from drun.console import Report, silent
from drun.errors import ConfigError, DataError
from dtrain.data.image_files import MAX_PIXELS, fit, open_stack, pixel_limit, takes_in
from dtrain.data.sources import ImageSource, open_source

#: Name of the array in its folder of the cache.
NAME = "images.npy"
_RECIPE = 1  # part of the cache's key: raise it when decoding or resizing gives other pixels


def load_images(source: str | Path, image_size: int, channels: int, report: Report = silent) -> NDArray[np.uint8]:
    """All images of a source (see `open_source`), decoded by `decoded`.

    Raises:
        DataError: naming the file that is missing, broken, empty or of the wrong kind.
    """
    check_format(image_size, channels)
    return decoded(open_source(source), image_size, channels, report)


def check_format(image_size: int, channels: int) -> None:
    """Raises ConfigError for sizes and channels that no picture has."""
    if channels not in (1, 3) or image_size < 1:
        got = f"image_size {image_size}, channels {channels}"
        raise ConfigError(f"unsupported images: got {got}, expected a positive size and 3 or 1 channels")


def decoded(source: ImageSource, image_size: int, channels: int, report: Report = silent) -> NDArray[np.uint8]:
    """The images decoded and resized: uint8 (N, image_size, image_size, channels).

    The short side is resized to `image_size` as in ADM (Dhariwal & Nichol 2021) and the centre is cropped. The array is
    a read-only memory map of a file in the user's cache (`drun.cache`), so memory does not grow with N; all runs use it
    as long as the source is the same. A source that is such an array is mapped as it is.

    channels: 3 (RGB) or 1 (grey levels).

    Raises:
        DataError: naming the image that is broken. UserError: the cache has no room.
    """
    shape = _shape(source, image_size, channels)
    if source.stack is not None and _is_mapped(source, shape):
        return source.stack.images().reshape(shape)
    _check_outside(cache.root(), source.path)
    images = (fit(source.read(i), image_size, channels) for i in range(len(source.names)))
    what = f"{shape[0]:,} images, {image_size}x{image_size} {'grey' if channels == 1 else 'colour'}, of {source.path}"
    return cache.fetch(
        _key(source, shape),
        NAME,
        what,
        int(np.prod(shape)),
        write=lambda path: _write_stack(path, images, shape, report),
        read=lambda path: open_stack(path).reshape(shape),
    )


def fingerprint(images: NDArray[np.uint8]) -> str:
    """The sha256 of decoded images and their shape, (N, H, W, C): checkpoints name their images by it."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 4096):  # the images may lie on a disk
        digest.update(images[start : start + 4096].tobytes())
    return digest.hexdigest()


def check_cache(source: ImageSource, image_size: int, channels: int) -> None:
    """Check, without writing, that `decoded` could write its file. Raises errors as `decoded` does."""
    shape = _shape(source, image_size, channels)
    if not _is_mapped(source, shape):
        _check_outside(cache.root(), source.path)
        cache.check(_key(source, shape), NAME, int(np.prod(shape)))


def _shape(source: ImageSource, image_size: int, channels: int) -> tuple[int, int, int, int]:
    return len(source.names), image_size, image_size, channels


def _is_mapped(source: ImageSource, shape: tuple[int, ...]) -> bool:
    """Whether the source itself is an array of this shape and type."""
    return source.stack is not None and source.stack.is_light and (*source.stack.shape, 1)[:4] == shape


def _key(source: ImageSource, shape: tuple[int, ...]) -> str:
    """A digest of everything that decides the pixels, and of the path: two sources may have equal names and times."""
    described = json.dumps([_RECIPE, shape, str(source.path.resolve()), source.fingerprint])
    return hashlib.sha256(described.encode(errors="surrogateescape")).hexdigest()


def _check_outside(folder: Path, source: Path) -> None:
    if takes_in(source, folder):
        raise DataError(
            f"the image folder '{source}' would take in the cache '{folder}', which the next run would read as images: "
            f"set {cache.VARIABLE} to another folder"
        )


def _write_stack(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], report: Report) -> None:
    npy: Any = np.lib.format  # its functions carry no types
    with path.open("wb") as file, pixel_limit(MAX_PIXELS):
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for done, image in enumerate(images, 1):
            file.write(image.tobytes())
            report("decoding images", done, shape[0])
