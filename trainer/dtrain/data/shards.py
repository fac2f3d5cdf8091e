"""Arrays in many files, read item by item: constant memory, and no file is kept open or mapped.

A data set can have more files than a process may hold open, and each map holds one.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from drun.console import warn
from drun.errors import DataError, door, reason
from drun.foreign import map_npy, read_npy, regular
from dtrain.data.image_files import HIDDEN, check_name, read_images

Indices = NDArray[np.int64]


class Items(Protocol):
    """N arrays of one shape and type."""

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
    """The file is not kept open.

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


# ---- many items a file ----------------------------------------------------------------------------------


def shard_path(folder: Path, kind: str, shard: int) -> Path:
    """kind: moments, moments-flipped or images."""
    return folder / f"{kind}-{shard:05d}.npy"


def sums_path(folder: Path, kind: str, shard: int) -> Path:
    """The CRC-32 of each item of a shard, uint32 (rows,)."""
    return folder / f"crc32-{kind}-{shard:05d}.npy"


def checksum(item: NDArray[Any]) -> int:
    """CRC-32 of an item's bytes."""
    return zlib.crc32(np.ascontiguousarray(item).data)


def save_shard(folder: Path, kind: str, shard: int, items: NDArray[Any]) -> None:
    """Write a small shard, which is in memory, and its checksums."""
    np.save(shard_path(folder, kind, shard), items)
    np.save(sums_path(folder, kind, shard), np.array([checksum(item) for item in items], np.uint32))


def shard_rows(num_items: int, size: int) -> list[int]:
    """Rows of each shard: `size`, and in the last what is left."""
    return [min(size, num_items - start) for start in range(0, num_items, size)]


@dataclass(frozen=True)
class Shards:
    """Item i is row i % size of shard i // size.

    offsets: where the rows begin in each file, bytes. sums: the CRC-32 of each item, None in folders of older versions.
    """

    folder: Path
    kind: str
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offsets: tuple[int, ...]
    sums: NDArray[np.uint32] | None

    @staticmethod
    def open(folder: Path, kind: str, size: int, num_items: int, shape: tuple[int, ...], dtype: Any) -> Shards:
        """Raises DataError naming a shard that is missing, cut short, or of another shape or type."""
        offsets = []
        for shard, rows in enumerate(shard_rows(num_items, size)):
            path = shard_path(folder, kind, shard)
            header = read_header(path)
            expected = Header((rows, *shape), np.dtype(dtype), header.offset)
            if header != expected:
                raise DataError(f"wrong shard '{path}': got {header}, expected {expected}; delete it and encode again")
            offsets.append(header.offset)
        sums = _read_sums(folder, kind, size, num_items)
        return Shards(folder, kind, size, shape, np.dtype(dtype), tuple(offsets), sums)

    def read(self, indices: Indices) -> NDArray[Any]:
        items = np.empty((len(indices), *self.shape), self.dtype)
        shards, rows = np.divmod(indices, self.size)
        for shard in np.unique(shards).tolist():
            path = shard_path(self.folder, self.kind, shard)
            advice = "delete it and encode again"
            with door(f"cannot read the shard '{path}'", DataError, advice), regular(path).open("rb") as file:
                for place in np.flatnonzero(shards == shard).tolist():
                    _read_into(items[place], file, self.offsets[shard], int(rows[place]))
                    if self.sums is not None and checksum(items[place]) != self.sums[indices[place]]:
                        raise ValueError(f"the checksum of row {rows[place]} is wrong")
        return items

    def where(self, index: int) -> str:
        return f"row {index % self.size} of '{shard_path(self.folder, self.kind, index // self.size)}'"


def _read_sums(folder: Path, kind: str, size: int, num_items: int) -> NDArray[np.uint32] | None:
    paths = [sums_path(folder, kind, shard) for shard in range(len(shard_rows(num_items, size)))]
    if not any(path.is_file() for path in paths):
        warn(f"the {kind} in '{folder}' have no checksums, so damage cannot be detected: encode them again")
        return None
    sums: NDArray[np.uint32] = np.concatenate([read_npy(path) for path in paths])
    if sums.shape != (num_items,) or sums.dtype != np.uint32:
        raise DataError(f"wrong checksums '{paths[0]}': got {sums.dtype} {sums.shape}; delete them and encode again")
    return sums


def _read_into(item: NDArray[Any], file: BinaryIO, offset: int, row: int) -> None:
    file.seek(offset + row * item.nbytes)
    if file.readinto(item) != item.nbytes:  # type: ignore[attr-defined]
        raise ValueError("it is cut short")


# ---- one item a file ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """Paths below a folder. As one array of bytes, which a million of them need a quarter of the memory for."""

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


# ---- what is in a folder --------------------------------------------------------------------------------

Listing = dict[str, tuple[int, int]]


def scan(folder: Path, suffixes: tuple[str, ...]) -> Listing:
    """Files below `folder` by their relative path, with size (bytes) and time (ns); no hidden ones. One pass.

    Raises:
        DataError: a folder or file that cannot be looked at, or whose name is not UTF-8.
    """
    found: Listing = {}
    pending = [(folder, "")]
    while pending:
        place, prefix = pending.pop()
        with door(f"cannot look through '{place}'", DataError, "repair or remove it"), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(HIDDEN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
                elif entry.name.lower().endswith(suffixes):
                    check_name(prefix + entry.name, folder)
                    found[prefix + entry.name] = _stamp(entry)
    return found


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError as error:  # such as a link to nothing
        raise DataError(f"cannot look at '{entry.path}': {reason(error)}; repair or remove it") from error
    return stat.st_size, stat.st_mtime_ns


def fingerprint(*listings: Mapping[str, tuple[int, int]]) -> str:
    """sha256 of names, sizes and times, in any order of the files."""
    digest = hashlib.sha256()
    for listing in listings:
        digest.update(b"\0")
        for name in sorted(listing):
            digest.update(f"{name}\0{listing[name]}\n".encode())
    return digest.hexdigest()
