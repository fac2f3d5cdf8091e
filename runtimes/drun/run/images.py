"""Turns float images into files that people look at and evaluators read."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from drun.errors import door
from drun.files import atomic

#: The shortest side at which a small image is shown in a grid, pixels.
GRID_TILE_PIXELS = 64
GRID_GAP_PIXELS = 2
#: The size of the letters of names in a picture, and the height of their line.
NAME_PIXELS, NAME_LINE_PIXELS = 12, 18

UInt8 = NDArray[np.uint8]
#: The last chunk of a PNG, with its checksum.
PNG_END = b"IEND\xaeB`\x82"


#: How [-1, 1] becomes 0..255, as x -> level before it is cut to the range.
CONVERSIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "round": lambda x: np.rint((x + 1) * 127.5),      # to nearest
    "floor": lambda x: np.trunc(127.5 * x + 127.5),   # REPA's: half a level darker
    "adm":   lambda x: np.trunc(127.5 * x + 128),     # guided-diffusion's, DiT's and SiT's
}  # fmt: skip


def to_uint8(x: NDArray[Any], conversion: str = "round") -> UInt8:
    """[-1, 1] to 0..255, clipped. (N, C, H, W) float -> (N, H, W, C) uint8. conversion: a key of CONVERSIONS."""
    return CONVERSIONS[conversion](x.transpose(0, 2, 3, 1)).clip(0, 255).astype(np.uint8)


def to_pil(image: UInt8) -> Image.Image:
    """(H, W, 1 or 3) uint8 -> Pillow image of mode L or RGB."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def write_png(path: Path, image: UInt8) -> None:
    """(H, W, C) uint8, atomically."""
    with atomic(path) as temporary:
        to_pil(image).save(temporary, format="PNG")


def read_png(path: Path) -> UInt8:
    """(H, W, C) uint8, of which every checksum holds.

    Raises:
        DataError: the file is missing or damaged, or no 8-bit grey or RGB picture.
    """
    with door(f"image '{path}' is broken", advice="delete it and run again"), warnings.catch_warnings():
        warnings.simplefilter("error")  # raised by pictures that are too large
        content = BytesIO(path.read_bytes())
        if not content.getvalue().endswith(PNG_END):
            raise ValueError("its end is missing, or bytes follow it")
        with Image.open(content, formats=["PNG"]) as image:
            image.verify()  # compares the checksums, which loading skips
        with Image.open(content, formats=["PNG"]) as image:
            if image.mode not in ("L", "RGB"):
                raise ValueError(f"its mode is {image.mode}, expected L or RGB")
            pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def grid(images: UInt8, num_columns: int | None = None, names: Sequence[str] = ()) -> UInt8:
    """Tile images on white, in reading order, small ones enlarged without smoothing.

    images: (N, H, W, C) uint8 -> (rows, columns, C) uint8. Columns: about the square root of N if not given. Names, if
    given, are written below the images, one each.
    """
    n, height, width, channels = images.shape
    columns = num_columns or int(np.ceil(n**0.5))
    rows = -(-n // columns)
    scale = max(1, -(-GRID_TILE_PIXELS // min(height, width)))
    height, width = height * scale, width * scale
    pitch_y, pitch_x = height + bool(names) * NAME_LINE_PIXELS + GRID_GAP_PIXELS, width + GRID_GAP_PIXELS
    sheet = np.full((rows * pitch_y + GRID_GAP_PIXELS, columns * pitch_x + GRID_GAP_PIXELS, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = GRID_GAP_PIXELS + (i // columns) * pitch_y, GRID_GAP_PIXELS + (i % columns) * pitch_x
        sheet[y : y + height, x : x + width] = image.repeat(scale, axis=0).repeat(scale, axis=1)
        if names:
            sheet[y + height : y + height + NAME_LINE_PIXELS, x : x + width] = _line(names[i], width)
    return sheet


def beside(pictures: Mapping[str, UInt8]) -> UInt8:
    """Pictures of one height and number of channels, (H, W, C) uint8, side by side on white, with names above them."""
    return np.concatenate([_below_name(name, picture) for name, picture in pictures.items()], axis=1)


def _below_name(name: str, picture: UInt8) -> UInt8:
    _, width, channels = picture.shape
    wanted = max(width, math.ceil(_font().getlength(name)) + 2 * GRID_GAP_PIXELS)
    wide = np.pad(picture, ((0, 0), (0, wanted - width), (0, 0)), constant_values=255)
    return np.concatenate([_line(name, wanted).repeat(channels, axis=2), wide])


def _line(text: str, width: int) -> UInt8:
    """A line of text, black on white, cut at the width, (NAME_LINE_PIXELS, width, 1) uint8."""
    line = Image.new("L", (width, NAME_LINE_PIXELS), 255)
    ImageDraw.Draw(line).text((GRID_GAP_PIXELS, 1), text, fill=0, font=_font())
    return np.asarray(line)[..., None]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(NAME_PIXELS)


#: shape, dtype and the rows along the first axis
Rows = tuple[tuple[int, ...], DTypeLike, Iterable[NDArray[Any]]]


def write_npz(path: Path, arrays: Mapping[str, Rows]) -> None:
    """Write an .npz row by row, so that memory does not grow with the number of images.

    Args:
        arrays: name -> (shape, dtype, rows).
    """
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, (shape, dtype, rows) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                _write_npy(entry, shape, np.dtype(dtype), rows)


def _write_npy(entry: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], rows: Iterable[NDArray[Any]]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, header)  # type: ignore[no-untyped-call]
    for row in rows:
        entry.write(np.ascontiguousarray(row, dtype).tobytes())


class Frames(Image.Image):
    """A multi-frame image whose frames are read from disk one at a time, as an encoder asks for them."""

    def __init__(self, num_frames: int, read: Callable[[int], UInt8]) -> None:
        super().__init__()
        self.n_frames, self.read = num_frames, read
        self.seek(0)

    def seek(self, frame: int) -> None:
        image = to_pil(self.read(frame))
        self.im, self._mode, self._size = image.im, image.mode, image.size


def write_animation(path: Path, frames: Image.Image, durations_ms: list[int]) -> None:
    """A looping WebP, near-lossless enough to see single pixels."""
    with atomic(path) as temporary:
        frames.save(temporary, format="WEBP", save_all=True, duration=durations_ms, loop=0, quality=80)


def image_path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"
