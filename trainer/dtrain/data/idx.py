"""idx files, as MNIST and its successors come: http://yann.lecun.com/exdb/mnist, below "file formats".

Such a file holds two zero bytes, the type of the values, the number of sides, the sides as big-endian 32-bit numbers,
and the values.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError, door
from drun.foreign import check_expansion, fill, regular

#: `train-images-idx3-ubyte.gz`, `emnist-letters-test-labels.idx1-ubyte` and the like.
NAME = re.compile(r"(?P<part>.*)(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")
UNSIGNED_BYTES, GZIP = 8, b"\x1f\x8b"
MAX_SIDES = 4


def is_idx(path: Path) -> bool:
    """Whether a file has a name as idx files have."""
    return NAME.fullmatch(path.name) is not None


def find_images(folder: Path) -> Path | None:
    """The file of images in a folder like MNIST's; None if there is none. Training images are preferred to test images.

    Raises:
        DataError: there are several, and nothing says which.
    """
    parts = _of_kind(folder, "images")
    chosen = [part for part in parts if part.endswith("train-")] if len(parts) > 1 else list(parts)
    if len(chosen) == 1:
        return parts[chosen[0]]
    if not parts:
        return None
    names = ", ".join(f"'{path.name}'" for path in parts.values())
    raise DataError(f"'{folder}' holds several sets of images, {names}: name the file to train on")


def labels_beside(images: Path) -> Path | None:
    """The file with the labels of a file of images, if there is one."""
    match = NAME.fullmatch(images.name)
    return _of_kind(images.parent, "labels").get(match["part"]) if match else None


def _of_kind(folder: Path, kind: str) -> dict[str, Path]:
    """The part of the name before `kind` -> the idx file; an unpacked file is preferred to a gzipped one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match and match["kind"] == kind and path.is_file():
            found.setdefault(match["part"], path)
    return found


def read_sides(path: Path) -> tuple[int, ...]:
    """The shape of an idx file's array, read from its beginning. Raises DataError as `read_idx` does."""
    with _opened(path) as (_, sides):
        return sides


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file, gzipped or not, in memory.

    Raises:
        DataError: it is missing, cut short, too long, damaged, or holds other values than unsigned bytes.
    """
    with _opened(path) as (file, sides):
        array = np.empty(math.prod(sides), np.uint8)
        fill(array, file)
        if file.read(1):  # reads to the end, where gzip compares its checksum
            raise ValueError(f"more follows than {'x'.join(map(str, sides))} bytes")
        return array.reshape(sides)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """The opened file at the position where the values begin, and the sides of its array."""
    with door(f"cannot read the idx file '{path}'"), regular(path).open("rb") as raw:
        size, is_packed = path.stat().st_size, raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        file: IO[bytes] = gzip.GzipFile(fileobj=raw) if is_packed else raw  # type: ignore[assignment]
        sides = _header(file)
        expected = 4 + 4 * len(sides) + math.prod(sides)
        if is_packed:
            check_expansion(size, expected)
        elif expected != size:
            raise ValueError(f"its {'x'.join(map(str, sides))} values need {expected:,} bytes, it has {size:,}")
        yield file, sides


def _header(file: IO[bytes]) -> tuple[int, ...]:
    zeros, kind, num_sides = struct.unpack(">HBB", _exactly(file, 4))
    if zeros:
        raise ValueError("it does not begin with two zero bytes")
    if kind != UNSIGNED_BYTES:
        raise ValueError(f"it holds values of type {kind:#04x}, expected {UNSIGNED_BYTES:#04x}, unsigned bytes")
    if not 1 <= num_sides <= MAX_SIDES:
        raise ValueError(f"its array has {num_sides} sides, expected 1 to {MAX_SIDES}")
    return struct.unpack(f">{num_sides}I", _exactly(file, 4 * num_sides))


def _exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise ValueError("it is cut short")
    return content
