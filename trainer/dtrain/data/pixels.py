"""All training images as one uint8 array, decoded once, before the first step."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drun.console import Report, silent
from drun.errors import ConfigError, DataError
from drun.files import atomic
from dtrain.data.digits import enlarged_digits
from dtrain.data.image_files import IMAGE_SUFFIXES, decode, find_files, fit, is_hidden, open_stack, read_images

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
        raise ConfigError(f"Unsupported images: got {got}, expected a positive size and 3 or 1 channels.")
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
        message = f"The image folder {source} would take in the cache {cache}, which the next run would read"
        raise DataError(f"{message} as images: put the output elsewhere.")


def _decoded(source: Path, image_size: int, channels: int, cache: Path, report: Report) -> NDArray[np.uint8]:
    members, read = _zip_members(source) if source.suffix.lower() == ".zip" else _folder_members(source)
    shape = (sum(member.num_images for member in members), image_size, image_size, channels)
    listing = json.dumps([_RECIPE, shape, [asdict(member) for member in members]])
    fingerprint = hashlib.sha256(listing.encode()).hexdigest()
    record = cache.with_name(cache.name + ".json")
    if not _is_current(cache, record, fingerprint):
        record.unlink(missing_ok=True)  # first: no old record may ever stand beside a new array
        _write_stack(cache, (fit(image, image_size, channels) for image in read()), shape, report)
        record.write_text(json.dumps({"fingerprint": fingerprint, "shape": shape}, indent=2) + "\n")
    return open_stack(cache) if channels == 3 else open_stack(cache)[..., None]


def _is_current(cache: Path, record: Path, fingerprint: str) -> bool:
    try:
        open_stack(cache)
        return bool(json.loads(record.read_text())["fingerprint"] == fingerprint)
    except (DataError, OSError, ValueError, KeyError, TypeError):  # absent, cut short or not ours
        return False


def _write_stack(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], report: Report) -> None:
    npy: Any = np.lib.format  # its functions carry no types
    with atomic(path) as unfinished, unfinished.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for done, image in enumerate(images, 1):
            file.write(image.tobytes())
            report("decoding images", done, shape[0])


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
        raise DataError(f"Unsupported image source: got the file {source}, expected {expected}.")
    files = find_files(source)
    root = source if source.is_dir() else source.parent
    members = [_file_member(path, root) for path in files]
    return members, lambda: (image for path in files for image in read_images(path))


def _file_member(path: Path, root: Path) -> _Member:
    num_images = len(open_stack(path)) if path.suffix.lower() == ".npy" else 1
    stat = path.stat()
    return _Member(path.relative_to(root).as_posix(), num_images, (stat.st_size, stat.st_mtime_ns))


def _zip_members(source: Path) -> tuple[list[_Member], Reader]:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"Cannot read zip file {source}: {error}.") from error
    images = [entry for entry in entries if _is_image(Path(entry.filename))]
    if not images:
        raise DataError(f"No images in zip file {source}: expected names in {', '.join(IMAGE_SUFFIXES)}.")
    members = [_Member(entry.filename, 1, (entry.file_size, entry.CRC)) for entry in images]
    return members, lambda: _read_zip(source, images)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def _read_zip(source: Path, entries: Sequence[zipfile.ZipInfo]) -> Iterator[Image.Image]:
    with zipfile.ZipFile(source) as archive:
        for entry in entries:
            yield decode(partial(archive.open, entry), f"{entry.filename} in {source}")
