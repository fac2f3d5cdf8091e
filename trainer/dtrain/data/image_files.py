"""Image files of every kind as 8-bit pictures; a broken one is named."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from drun.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


def find_files(source: Path) -> list[Path]:
    """The image file or .npy stack `source` itself, or all below a folder, sorted, without hidden ones.

    Raises DataError if there are none.
    """
    suffixes = (*IMAGE_SUFFIXES, ".npy")
    if source.is_file() and source.suffix.lower() in suffixes:
        return [source]
    if not source.is_dir():
        kind = "unsupported file" if source.exists() else "no such file or folder"
        expected = f"a folder, or one of {', '.join(suffixes)}"
        raise DataError(f"Cannot read images: {kind} {source}; expected {expected}.")
    files = [path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file()]
    visible = [path for path in files if not is_hidden(path.relative_to(source))]
    if not visible:
        raise DataError(f"No images in folder {source}: expected names in {', '.join(suffixes)}.")
    return sorted(visible, key=lambda path: path.relative_to(source).as_posix())


def is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)


def read_images(path: Path) -> Iterator[Image.Image]:
    """The one image of an image file (upright, 8-bit, mode L or RGB), or all images of a .npy stack.

    Raises DataError naming the file if it cannot be decoded.
    """
    if path.suffix.lower() == ".npy":
        yield from (Image.fromarray(image) for image in open_stack(path))
    else:
        yield decode(partial(path.open, "rb"), str(path))


def decode(opened: Callable[[], Any], name: str) -> Image.Image:
    """One image, upright, 8-bit, mode L or RGB. Raises DataError with `name` and the cause."""
    try:
        with opened() as file, Image.open(file) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _to_8bit(image)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"Cannot decode image {name}: {_advice(error)}.") from error


def _advice(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels for one training image; cut it with dtrain tiles"
    cause = "unknown format" if isinstance(error, UnidentifiedImageError) else error
    return f"{cause}; repair or remove it"


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"got 32-bit values (mode {image.mode}) of unknown range, expected 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def open_stack(path: Path) -> NDArray[np.uint8]:
    """A .npy file of images as a read-only memory map, uint8 (N, H, W) or (N, H, W, 3).

    Raises DataError if it holds anything else; pickled objects are never loaded.
    """
    try:
        stack: NDArray[np.uint8] = np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"Cannot read image stack {path}: {error}.") from error
    is_image = stack.ndim == 3 or (stack.ndim == 4 and stack.shape[-1] in (1, 3))
    if stack.dtype != np.uint8 or not is_image or 0 in stack.shape:
        got = f"{stack.dtype} {stack.shape}"
        raise DataError(f"Wrong image stack {path}: got {got}, expected uint8 (N, H, W) or (N, H, W, 3).")
    return stack[..., 0] if stack.shape[3:] == (1,) else stack


def fit(image: Image.Image, image_size: int, channels: int) -> NDArray[np.uint8]:
    """The centre square of the image, uint8 (image_size, image_size, channels).

    Box-halved while its short side is at least twice too large, then bicubic: Dhariwal & Nichol 2021 (ADM).
    """
    image = image.convert("L" if channels == 1 else "RGB")
    while min(image.size) >= 2 * image_size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = image_size / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image).reshape(image_size, image_size, channels)
