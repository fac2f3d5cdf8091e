"""All training images as one uint8 array, decoded once, before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drun.console import Report, silent
from drun.errors import ConfigError, DataError
from drun.files import atomic, sha256, write_json
from drun.foreign import read_json
from dtrain.data.digits import enlarged_digits
from dtrain.data.image_files import MAX_PIXELS, find_files, fit, is_hidden, open_stack, pixel_limit, read_images
from dtrain.data.zips import open_zip

_RECIPE = 1  # part of a cache's fingerprint: raise it when decoding or resizing gives other pixels


def load_images(
    source: str | Path, image_size: int, channels: int, cache: Path, report: Report = silent
) -> NDArray[np.uint8]:
    """All images of `source`, decoded and resized once: uint8 (N, image_size, image_size, channels).

    source: the word `digits` (scikit-learn's handwritten digits at 16x16; write ./digits for a folder of
        that name), a folder (searched recursively, in sorted order, for PNG, JPEG, TIFF, WebP and BMP files
        and uint8 .npy stacks of shape (N, H, W) or (N, H, W, 3)), a .zip of images, or one .npy stack.
    channels: 3 (RGB) or 1 (grey levels).
    cache: the .npy file, outside the source, that keeps the result, beside a .json fingerprint of the source;
        both are used again as long as the source is the same. A source that is such an array, and `digits`,
        need none.

    The short side is resized to `image_size` as in ADM (Dhariwal & Nichol 2021) and the centre is cropped.
    The array is a read-only memory map except for `digits`, so memory does not grow with N.
    Raises DataError naming the file that is missing, broken, empty or of the wrong kind.
    """
    if channels not in (1, 3) or image_size < 1:
        got = f"image_size {image_size}, channels {channels}"
        raise ConfigError(f"unsupported images: got {got}, expected a positive size and 3 or 1 channels")
    if source == "digits":
        return enlarged_digits(image_size, channels)
    path = Path(source)
    if path.suffix.lower() == ".npy" and path.is_file():
        stack = open_stack(path)
        stack = stack[..., None] if stack.ndim == 3 else stack
        if stack.shape[1:] == (image_size, image_size, channels):
            return stack
    _check_outside(cache, path)
    return _decoded(path, image_size, channels, cache, report)


def _check_outside(cache: Path, source: Path) -> None:
    inner, folder = cache.resolve(), source.resolve()
    if inner.is_relative_to(folder) and not is_hidden(inner.relative_to(folder)):
        message = f"the image folder '{source}' would take in the cache '{cache}', which the next run would read"
        raise DataError(f"{message} as images: put the output elsewhere")


def _decoded(source: Path, image_size: int, channels: int, cache: Path, report: Report) -> NDArray[np.uint8]:
    members, read = _zip_members(source) if source.suffix.lower() == ".zip" else _folder_members(source)
    shape = (sum(member.num_images for member in members), image_size, image_size, channels)
    listing = json.dumps([_RECIPE, shape, [asdict(member) for member in members]])
    fingerprint = hashlib.sha256(listing.encode()).hexdigest()
    record = cache.with_name(cache.name + ".json")
    if not _is_current(cache, record, fingerprint, shape):
        record.unlink(missing_ok=True)  # first: no old record may ever stand beside a new array
        digest = _write_stack(cache, (fit(image, image_size, channels) for image in read()), shape, report)
        write_json(record, {"fingerprint": fingerprint, "shape": shape, "sha256": digest})
    return open_stack(cache) if channels == 3 else open_stack(cache)[..., None]


def _is_current(cache: Path, record: Path, fingerprint: str, shape: tuple[int, ...]) -> bool:
    """Whether its record says the same and every byte is as it was written: about a second a gigabyte."""
    try:
        said, stack = read_json(record), open_stack(cache)
    except DataError:  # absent, cut short or not ours
        return False
    stated = said.get("fingerprint") == fingerprint and (*stack.shape, 1)[:4] == shape
    return stated and said.get("sha256") == sha256(cache)


def _write_stack(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], report: Report) -> str:
    """Its sha256."""
    npy: Any = np.lib.format  # its functions carry no types
    with atomic(path) as unfinished, pixel_limit(MAX_PIXELS):
        with unfinished.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for done, image in enumerate(images, 1):
                file.write(image.tobytes())
                report("decoding images", done, shape[0])
        return sha256(unfinished)


# ---- where the images are -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    """One file of a source. stamp: what changes when the file does (size in bytes; mtime in ns, or CRC)."""

    name: str
    num_images: int
    stamp: tuple[int, int]


Reader = Callable[[], Iterator[Image.Image]]


def _folder_members(source: Path) -> tuple[list[_Member], Reader]:
    if source.is_file() and source.suffix.lower() != ".npy":
        expected = "a folder, a .zip of images or a .npy stack; cut one large image with dtrain tiles"
        raise DataError(f"unsupported image source: got the file '{source}', expected {expected}")
    files = find_files(source)
    root = source if source.is_dir() else source.parent
    members = [_file_member(path, root) for path in files]
    return members, lambda: (image for path in files for image in read_images(path))


def _file_member(path: Path, root: Path) -> _Member:
    num_images = len(open_stack(path)) if path.suffix.lower() == ".npy" else 1
    stat = path.stat()
    return _Member(path.relative_to(root).as_posix(), num_images, (stat.st_size, stat.st_mtime_ns))


def _zip_members(source: Path) -> tuple[list[_Member], Reader]:
    found = open_zip(source)
    members = [_Member(name, 1, stamp) for name, stamp in zip(found.names, found.stamps, strict=True)]
    return members, lambda: map(found.read, range(len(members)))
