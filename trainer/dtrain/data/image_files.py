"""Reads image files of every kind as 8-bit pictures, and names a broken one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from drun.errors import DataError, door
from drun.foreign import map_npy, regular

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
STACK_SUFFIX = ".npy"
#: The first characters of the names of files that are ignored.
HIDDEN = (".", "__MACOSX")
#: Most pixels of a picture to train on, about those of the largest telephone camera, and of one to cut into tiles. A
#: small file may decode to any number; in memory a pixel takes four bytes, and for a moment twice as many.
MAX_PIXELS, MAX_PIXELS_TO_CUT = 200_000_000, 1 << 30
#: The bytes that any file may decode to, and those for each byte of the file: twice as many as a blank 8-bit PNG needs.
FREE_PIXELS, PIXELS_A_BYTE = 1 << 24, 2000
#: Pillow's modes of 8 bits without colour, and with transparency.
GREY_MODES, ALPHA_MODES = ("1", "L", "LA", "La"), ("LA", "La", "PA", "RGBA", "RGBa")
#: Above this ratio of the sides only the centre is resized, because the whole would be far larger than the part that is
#: kept.
EXTREME_RATIO = 4
#: The pixels around a part that bicubic resizing to more than half the size uses.
_REACH = 4

#: The first bytes of files, and the plugin that reads them. No other plugin of Pillow is tried, because some start
#: programs.
_FORMATS: tuple[tuple[bytes, Callable[[Any], ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.jpeg_factory),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)


def find_files(source: Path) -> list[Path]:
    """The image file or .npy stack `source` itself, or all below a folder, sorted, without hidden ones.

    Raises DataError if there are none.
    """
    suffixes = (*IMAGE_SUFFIXES, STACK_SUFFIX)
    if source.is_file() and source.suffix.lower() in suffixes:
        return [source]
    if not source.is_dir():
        kind = "unsupported file" if source.exists() else "no such file or folder"
        expected = f"a folder, or one of {', '.join(suffixes)}"
        raise DataError(f"cannot read images: {kind} '{source}'; expected {expected}")
    files = [path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file()]
    visible = [path for path in files if not is_hidden(path.relative_to(source))]
    if not visible:
        raise DataError(f"no images in folder '{source}': expected names in {', '.join(suffixes)}")
    for path in visible:
        check_name(path.relative_to(source).as_posix(), source)
    return sorted(visible, key=lambda path: path.relative_to(source).as_posix())


def check_name(name: str, folder: Path) -> None:
    """Raises DataError for the name of a file that no JSON and no fingerprint can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of '{name}' in '{folder}' is not UTF-8: rename it") from error


def is_hidden(path: Path) -> bool:
    return any(part.startswith(HIDDEN) and part != ".." for part in path.parts)


def takes_in(source: Path, folder: Path) -> bool:
    """Whether images that are written to a folder would be among the source's images the next time."""
    inner, outer = folder.resolve(), source.resolve()
    return inner.is_relative_to(outer) and not is_hidden(inner.relative_to(outer))


def read_images(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The one image of an image file, or all images of a .npy stack.

    Args, images and errors: as `decode` and `open_stack`.
    """
    if path.suffix.lower() == STACK_SUFFIX:
        yield from (Image.fromarray(image) for image in open_stack(path))
    else:
        yield decode(lambda: regular(path).open("rb"), str(path), max_pixels)


def decode(opened: Callable[[], Any], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """One image, the first of a file, upright, 8-bit, mode L or RGB.

    Args:
        opened: opens the file, whose content may be anybody's.
        name: of the file, for messages.
        max_pixels: of the image; nothing is decoded above.

    Raises:
        DataError: too many pixels, another format than PNG, JPEG, TIFF, WebP or BMP, 32-bit values, or damage.
    """
    with door(f"cannot decode image '{name}'", DataError, "repair or remove it"), opened() as file:
        image = _open(file, name, max_pixels)
        ImageOps.exif_transpose(image, in_place=True)
        return _to_8bit(image)


@dataclass(frozen=True)
class Look:
    """The facts in the header of an image. Sizes are in pixels, as stored, before the image is turned upright."""

    width: int
    height: int
    is_grey: bool
    has_alpha: bool = False
    is_16_bit: bool = False


def look_at(opened: Callable[[], Any], name: str) -> Look:
    """The header of an image. Args and errors as `decode`, as far as the header shows them."""
    with door(f"cannot decode image '{name}'", DataError, "repair or remove it"), opened() as file:
        image = _open(file, name, MAX_PIXELS)
        is_16_bit, has_alpha = image.mode.startswith("I;16"), image.mode in ALPHA_MODES or "transparency" in image.info
        return Look(image.width, image.height, is_16_bit or image.mode in GREY_MODES, has_alpha, is_16_bit)


def look_of_stack(shape: tuple[int, ...]) -> Look:
    """The same facts for the images of a stack. shape: (N, H, W) or (N, H, W, 3)."""
    return Look(shape[2], shape[1], is_grey=len(shape) == 3)


def _open(file: Any, name: str, max_pixels: int) -> ImageFile:
    """Does what Image.open does, without the plugins that start programs."""
    start, num_bytes = file.read(16), file.seek(0, os.SEEK_END)
    plugin = next((plugin for magic, plugin in _FORMATS if start.startswith(magic)), None)
    if plugin is None:
        raise ValueError("unknown format, expected PNG, JPEG, TIFF, WebP or BMP")
    file.seek(0)
    try:
        image = plugin(file)
    except Image.DecompressionBombError:
        raise _too_large(name, "too many", max_pixels) from None
    if min(image.size) < 1:
        raise ValueError(f"it has {image.width}x{image.height} pixels")
    if image.mode in ("I", "F"):
        raise ValueError(f"got 32-bit values (mode {image.mode}) of unknown range, expected 8 or 16 bits")
    if image.width * image.height > max_pixels:
        raise _too_large(name, f"{image.width}x{image.height}", max_pixels)
    if image.width * image.height > max(FREE_PIXELS, PIXELS_A_BYTE * num_bytes):
        raise ValueError(f"its {num_bytes:,} bytes would decode to {image.width}x{image.height} pixels")
    return image


def _too_large(name: str, got: str, max_pixels: int) -> DataError:
    advice = "cut it with dtrain tiles, or into smaller files"
    return DataError(f"image '{name}' has {got} pixels, expected at most {max_pixels:,}: {advice}")


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """While many images are decoded Pillow's limit is this one, for its own is lower, and it prints no warnings.

    Both hold for the whole process, so this is for who decodes, not for each image: threads share it.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # warnings about odd metadata, which no pixel depends on
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.load()
    image.info.pop("transparency", None)  # a palette's transparency changes no colour, but Pillow warns of some kinds
    return _in_mode(image, "L" if image.mode in GREY_MODES else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in this mode; it is not converted if it has the mode already, because Pillow would copy it."""
    return image if image.mode == mode else image.convert(mode)


def open_stack(path: Path) -> NDArray[np.uint8]:
    """A .npy file of images as a read-only memory map, uint8 (N, H, W) or (N, H, W, 3).

    Raises:
        DataError: it is missing, damaged, or holds anything else.
    """
    stack: NDArray[np.uint8] = map_npy(path)
    is_image = stack.ndim == 3 or (stack.ndim == 4 and stack.shape[-1] in (1, 3))
    if stack.dtype != np.uint8 or not is_image or 0 in stack.shape:
        got = f"{stack.dtype} {stack.shape}"
        raise DataError(f"wrong image stack '{path}': got {got}, expected uint8 (N, H, W) or (N, H, W, 3)")
    return stack[..., 0] if stack.shape[3:] == (1,) else stack


def fit(image: Image.Image, image_size: int, channels: int) -> NDArray[np.uint8]:
    """The centre square of the image, uint8 (image_size, image_size, channels).

    Box-halved while its short side is at least twice too large, then bicubic: Dhariwal & Nichol 2021 (ADM).
    """
    image = _in_mode(image, "L" if channels == 1 else "RGB")
    while min(image.size) >= 2 * image_size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = image_size / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    left, top = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    if max(image.size) > EXTREME_RATIO * min(image.size):
        image = _resize_part(image, size, (left, top), image_size)
    else:
        image = image.resize(size, Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image).reshape(image_size, image_size, channels)


def _resize_part(image: Image.Image, size: tuple[int, int], corner: tuple[int, int], side: int) -> Image.Image:
    """The square at `corner` of the image as it would be at `size`, up to roundings: a line would take gigabytes there.

    Only its surroundings are resized, cut out first, because Pillow takes the box in float32.
    """
    box, surroundings = [0.0] * 4, [0] * 4
    for axis in (0, 1):
        ratio = image.size[axis] / size[axis]
        low, high = corner[axis] * ratio, min((corner[axis] + side) * ratio, image.size[axis])
        first = max(0, int(low) - _REACH)
        surroundings[axis], surroundings[axis + 2] = first, min(image.size[axis], int(high) + 1 + _REACH)
        box[axis], box[axis + 2] = low - first, high - first
    part = image.crop((surroundings[0], surroundings[1], surroundings[2], surroundings[3]))
    return part.resize((side, side), Image.Resampling.BICUBIC, box=(box[0], box[1], box[2], box[3]))
