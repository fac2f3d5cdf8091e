"""Many items a file: shards of one size, with a checksum for each item."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from drun.console import warn
from drun.errors import DataError, door
from drun.foreign import read_npy, regular
from dtrain.data.items import Header, Indices, read_header


def shard_path(folder: Path, kind: str, shard: int) -> Path:
    """The file of a shard. kind: moments, moments-flipped or images."""
    return folder / f"{kind}-{shard:05d}.npy"


def sums_path(folder: Path, kind: str, shard: int) -> Path:
    """The file with the CRC-32 of each item of a shard, uint32 (rows,)."""
    return folder / f"crc32-{kind}-{shard:05d}.npy"


def checksum(item: NDArray[Any]) -> int:
    """CRC-32 of an item's bytes."""
    return zlib.crc32(np.ascontiguousarray(item).data)


def save_shard(folder: Path, kind: str, shard: int, items: NDArray[Any]) -> None:
    """Write a shard that fits in memory, and its checksums."""
    np.save(shard_path(folder, kind, shard), items)
    np.save(sums_path(folder, kind, shard), np.array([checksum(item) for item in items], np.uint32))


def shard_rows(num_items: int, size: int) -> list[int]:
    """The rows of each shard: `size`, and the rest in the last one."""
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
