"""Arrays in files, read item by item: constant memory, and no file is kept open or mapped.

A data set can have more files than a process may hold open, and each map holds one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError, door
from drun.foreign import map_npy, regular
from dtrain.data.image_files import read_images

Indices = NDArray[np.int64]


class Items(Protocol):
    """N arrays of one shape and type, which are read by their numbers."""

    def read(self, indices: Indices) -> NDArray[Any]:
        """The items `indices`, int64 (n,) in 0..N - 1: (n, *shape). Raises DataError naming a file."""
        ...

    def where(self, index: int) -> str:
        """The file of an item, for a message."""
        ...


@dataclass(frozen=True)
class Header:
    """Header of an .npy file: type and shape of its array, and the byte at which the array starts."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def read_header(path: Path) -> Header:
    """Read the header of an .npy file, which is not kept open.

    Raises:
        DataError: it is missing, empty, cut short, too long, holds objects, or is not in C order.
    """
    array = map_npy(path)
    if not array.flags.c_contiguous:
        raise DataError(f"cannot read the array '{path}': it is in Fortran order, expected C order; encode it again")
    return Header(array.shape, array.dtype, array.offset)


def is_array(path: Path, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether the file is there, complete, and of this shape and type."""
    try:
        header = read_header(path)
    except DataError:
        return False
    return header == Header(shape, np.dtype(dtype), header.offset)


@dataclass(frozen=True)
class Names:
    """Paths below a folder, as one array of bytes: a million of them need a quarter of the memory."""

    folder: Path
    encoded: NDArray[np.bytes_]

    @staticmethod
    def of(folder: Path, names: Iterable[str]) -> Names:
        return Names(folder, np.array([name.encode() for name in names]))

    def path(self, index: int) -> Path:
        return self.folder / bytes(self.encoded[index]).decode()


@dataclass(frozen=True)
class ArrayFiles:
    """Item i is the whole .npy file i; all have the same header, byte by byte."""

    names: Names
    header: Header

    def read(self, indices: Indices) -> NDArray[Any]:
        items = np.empty((len(indices), *self.header.shape), self.header.dtype)
        head = self._head(0)
        for place, index in enumerate(indices.tolist()):
            path = self.names.path(index)
            with door(f"cannot read the array '{path}'"):
                content = regular(path).read_bytes()
            if content[: len(head)] != head or len(content) != len(head) + items[place].nbytes:
                raise DataError(f"wrong array '{path}': expected {self.header}, as in '{self.names.path(0)}'")
            items[place] = np.frombuffer(content, self.header.dtype, offset=len(head)).reshape(self.header.shape)
        return items

    def where(self, index: int) -> str:
        return f"'{self.names.path(index)}'"

    def _head(self, index: int) -> bytes:
        path = self.names.path(index)
        with door(f"cannot read the array '{path}'"), regular(path).open("rb") as file:
            return file.read(self.header.offset)


@dataclass(frozen=True)
class Pictures:
    """Item i is the image file i, uint8 (image_size, image_size, 3)."""

    names: Names
    image_size: int

    def read(self, indices: Indices) -> NDArray[np.uint8]:
        items = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
        for place, index in enumerate(indices.tolist()):
            path = self.names.path(index)
            image = next(read_images(path))
            if image.size != (self.image_size, self.image_size):
                got, expected = f"{image.width}x{image.height}", f"{self.image_size}x{self.image_size}"
                raise DataError(f"wrong image '{path}': got {got} pixels, expected {expected}, as its latent has")
            items[place] = np.asarray(image.convert("RGB"))
        return items

    def where(self, index: int) -> str:
        return f"'{self.names.path(index)}'"
