"""Images as one uint8 array, and the order, augmentation and range in which a training step sees them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from drun.errors import ConfigError, DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
DIGITS_SIZE = 16
_RECIPE = 1  # part of a cache's fingerprint: raise it when decoding or resizing gives other pixels

T = TypeVar("T")


# ---- one array ------------------------------------------------------------------------------------------


def load_images(source: str | Path, image_size: int, channels: int, cache: Path) -> NDArray[np.uint8]:
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
        return _enlarged_digits(image_size, channels)
    path = Path(source)
    if path.suffix.lower() == ".npy" and path.is_file():
        stack = open_stack(path)
        stack = stack[..., None] if stack.ndim == 3 else stack
        if stack.shape[1:] == (image_size, image_size, channels):
            return stack
    _check_outside(cache, path)
    return _decoded(path, image_size, channels, cache)


def _check_outside(cache: Path, source: Path) -> None:
    inner, folder = cache.resolve(), source.resolve()
    if inner.is_relative_to(folder) and not _is_hidden(inner.relative_to(folder)):
        message = f"The image folder {source} would take in the cache {cache}, which the next run would read"
        raise DataError(f"{message} as images: put the output elsewhere.")


def _decoded(source: Path, image_size: int, channels: int, cache: Path) -> NDArray[np.uint8]:
    members, read = _zip_members(source) if source.suffix.lower() == ".zip" else _folder_members(source)
    shape = (sum(member.num_images for member in members), image_size, image_size, channels)
    listing = json.dumps([_RECIPE, shape, [asdict(member) for member in members]])
    fingerprint = hashlib.sha256(listing.encode()).hexdigest()
    record = cache.with_name(cache.name + ".json")
    if not _is_current(cache, record, fingerprint):
        record.unlink(missing_ok=True)  # first: no old record may ever stand beside a new array
        _write_stack(cache, (fit(image, image_size, channels) for image in read()), shape)
        record.write_text(json.dumps({"fingerprint": fingerprint, "shape": shape}, indent=2) + "\n")
    return open_stack(cache) if channels == 3 else open_stack(cache)[..., None]


def _is_current(cache: Path, record: Path, fingerprint: str) -> bool:
    try:
        open_stack(cache)
        return bool(json.loads(record.read_text())["fingerprint"] == fingerprint)
    except (DataError, OSError, ValueError, KeyError, TypeError):  # absent, cut short or not ours
        return False


def _write_stack(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
    npy: Any = np.lib.format  # its functions carry no types
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with unfinished.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for image in progress(images, "decoding images", total=shape[0]):
                file.write(image.tobytes())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def progress(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The items, with a progress bar and the time left on stderr if that is a terminal."""
    console = Console(stderr=True)
    return track(items, description, total=total, console=console, disable=not sys.stderr.isatty())


# ---- where the images are -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    """One file of a source. stamp: what changes when the file does (size in bytes; mtime in ns, or CRC)."""

    name: str
    num_images: int
    stamp: tuple[int, int]


Reader = Callable[[], Iterator[Image.Image]]


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
    visible = [path for path in files if not _is_hidden(path.relative_to(source))]
    if not visible:
        raise DataError(f"No images in folder {source}: expected names in {', '.join(suffixes)}.")
    return sorted(visible, key=lambda path: path.relative_to(source).as_posix())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)


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
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path)


# ---- decoding -------------------------------------------------------------------------------------------


def _read_zip(source: Path, entries: Sequence[zipfile.ZipInfo]) -> Iterator[Image.Image]:
    with zipfile.ZipFile(source) as archive:
        for entry in entries:
            yield _decode(partial(archive.open, entry), f"{entry.filename} in {source}")


def read_images(path: Path) -> Iterator[Image.Image]:
    """The one image of an image file (upright, 8-bit, mode L or RGB), or all images of a .npy stack.

    Raises DataError naming the file if it cannot be decoded.
    """
    if path.suffix.lower() == ".npy":
        yield from (Image.fromarray(image) for image in open_stack(path))
    else:
        yield _decode(partial(path.open, "rb"), str(path))


def _decode(opened: Callable[[], Any], name: str) -> Image.Image:
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


# ---- scikit-learn's handwritten digits ------------------------------------------------------------------


def digits_8x8() -> NDArray[np.float64]:
    """The handwritten digits that come with scikit-learn: float64 (1797, 8, 8) in [0, 1], steps of 1/16."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images, dtype=np.float64) / 16


def digit_labels() -> NDArray[np.int64]:
    """What the digits show: int64 (1797,) in 0..9."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().target, dtype=np.int64)


def _enlarged_digits(image_size: int, channels: int) -> NDArray[np.uint8]:
    if image_size != DIGITS_SIZE:
        raise ConfigError(f"The digits have one size: got image_size {image_size}, expected {DIGITS_SIZE}.")
    pixels = np.rint(_enlarge(digits_8x8() * 255)).astype(np.uint8)
    return np.repeat(pixels[..., None], channels, axis=-1)


def _enlarge(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, S, S) -> (N, 2S, 2S), both in [0, 255]: bilinear, yet the mean of each 2x2 block is the old pixel.

    Where the detail in a block would leave the range it is scaled down: clipping would move the mean.
    """
    num, side, _ = images.shape
    at = (np.arange(2 * side) - 0.5) / 2
    weights = np.array([np.interp(at, np.arange(side), row) for row in np.eye(side)])
    smooth = (weights.T @ images @ weights).reshape(num, side, 2, side, 2)
    old = images[:, :, None, :, None]
    detail = smooth - smooth.mean(axis=(2, 4), keepdims=True)
    below, above = (peak.max(axis=(2, 4), keepdims=True).clip(1e-9) for peak in (-detail, detail))
    scale = np.minimum(1, np.minimum(old / below, (255 - old) / above))
    enlarged: NDArray[np.float64] = (old + scale * detail).reshape(num, 2 * side, 2 * side)
    return enlarged


# ---- what a training step sees --------------------------------------------------------------------------


def batch_indices(num_images: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Which images step number `step` (from 0) trains on: int64 (batch_size,) in 0..num_images - 1.

    The data order is an endless row of permutations, one per epoch, drawn from (seed, epoch); a batch may
    straddle two. It depends on nothing but the arguments, so a resumed run goes on where it stopped.
    """
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), num_images)
    orders = [(epoch, _permutation(num_images, seed, epoch)) for epoch in np.unique(epochs).tolist()]
    return np.concatenate([order[places[epochs == epoch]] for epoch, order in orders])


@lru_cache(maxsize=2)
def _permutation(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_images)


# Each symmetry is applied to half of the images, whatever happened to them before.
AUGMENTATIONS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "hflip": (lambda images: images.flip(-1),),
    "vflip": (lambda images: images.flip(-2),),
    "rot90": (lambda images: images.flip(-1, -2), lambda images: images.rot90(1, (-2, -1))),
}


def augment(batch: Tensor, modes: Sequence[str], generator: torch.Generator) -> Tensor:
    """Symmetries drawn for each image: a flip with probability 1/2, one of the four quarter turns with 1/4.

    batch: (N, C, H, W) of any dtype, on any device, H = W for rot90; modes: hflip, vflip, rot90;
    generator: on the CPU. Raises ConfigError for an unknown mode, and for rot90 of oblong images.
    """
    unknown = [mode for mode in modes if mode not in AUGMENTATIONS]
    if unknown:
        raise ConfigError(f"Unknown augmentation: got {unknown[0]!r}, expected {', '.join(AUGMENTATIONS)}.")
    height, width = batch.shape[-2:]
    if "rot90" in modes and height != width:
        raise ConfigError(f"rot90 needs square images: got {height}x{width} pixels; use hflip and vflip.")
    for symmetry in (symmetry for mode in modes for symmetry in AUGMENTATIONS[mode]):
        chosen = torch.rand(len(batch), generator=generator) < 0.5
        batch = torch.where(chosen.to(batch.device)[:, None, None, None], symmetry(batch), batch)
    return batch


def to_model_range(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) in 0..255 -> float32 (N, C, H, W) in [-1, 1]."""
    assert images.dtype == torch.uint8, images.dtype
    return images.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 127.5 - 1
