"""weight.bin: the constants of a program, each behind a record of 64 bytes that says what and where it is.

The layout is that of MILBlob's storage format, version 2, which coremltools publishes. All numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.mil.types import BITS, TensorType

#: Of the head of the file, and of a record, bytes.
RECORD_BYTES = 64
VERSION, SENTINEL = 2, 0xDEADBEEF
#: number in a record -> type of the elements
DTYPES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip
#: Elements that are unpacked at once: their bits take eight times as many bytes.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Record:
    """Where a constant lies: `start` to `stop`, bytes, of which the last `padding` bits are no elements."""

    number: int  # see DTYPES
    start: int
    stop: int
    padding: int


class Blobs:
    """The constants of a weight.bin, which stays on the disk until they are read.

    Raises:
        ValueError: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size < RECORD_BYTES:
            raise ValueError(f"'{path.name}' is cut short")
        self.path, self.name = path, path.name
        self.data = np.memmap(path, np.uint8, "r")
        version = int(self.data[4:8].view("<u4")[0])
        if version != VERSION:
            raise ValueError(f"'{path.name}' has version {version} of its format, expected {VERSION}")

    def record(self, offset: int) -> Record:
        """The record at an offset, bytes. Raises ValueError if there is none, or its data lie outside of the file."""
        where = f"'{self.name}' at {offset:,}"
        if offset % RECORD_BYTES or not RECORD_BYTES <= offset <= len(self.data) - RECORD_BYTES:
            raise ValueError(f"{where} has no record: it has {len(self.data):,} bytes")
        head = self.data[offset : offset + RECORD_BYTES]
        sentinel, number = head[:8].view("<u4").tolist()
        size, start, padding = head[8:32].view("<u8").tolist()
        if sentinel != SENTINEL:
            raise ValueError(f"{where} has no record")
        if start + size > len(self.data):
            raise ValueError(f"{where} holds {size:,} bytes from {start:,} on, the file has {len(self.data):,}")
        return Record(number, start, start + size, padding)

    def read(self, offset: int, expected: TensorType) -> NDArray[Any]:
        """The elements of a constant, flat, in the type of the file; those of 1 to 6 bits as int8 or uint8.

        Raises:
            ValueError: as `content`.
        """
        content, bits = self.content(offset, expected), BITS[expected.dtype]
        if bits < 8:
            return unpacked(content, bits, expected.size, expected.dtype == "int4")
        return content.view(storage(expected.dtype))

    def content(self, offset: int, expected: TensorType) -> NDArray[np.uint8]:
        """The bytes of a constant, which stay on the disk.

        Args:
            offset: of the record, bytes.

        Raises:
            ValueError: there is no record, it lies outside of the file, or is of another type or length.
        """
        where, record = f"'{self.name}' at {offset:,}", self.record(offset)
        dtype = DTYPES.get(record.number)
        if dtype != expected.dtype and (dtype, expected.dtype) != ("uint8", "bool"):
            raise ValueError(f"{where} holds {dtype or f'type {record.number}'}, expected {expected}")
        bits, content = BITS[expected.dtype], self.data[record.start : record.stop]
        if len(content) * 8 - record.padding != bits * expected.size:
            raise ValueError(f"{where} holds {len(content):,} bytes, expected {expected}")
        return content


def storage(dtype: str) -> np.dtype[Any]:
    """How a type's elements of whole bytes lie in a file."""
    names = {"bool": "?", "fp16": "<f2", "fp32": "<f4"}
    return np.dtype(names.get(dtype) or f"<{'u' if dtype.startswith('u') else 'i'}{BITS[dtype] // 8}")


def unpacked(data: NDArray[np.uint8], bits: int, count: int, is_signed: bool = False) -> NDArray[Any]:
    """Elements of 1 to 8 bits, which lie one behind the other, the lowest bit first, as uint8 or int8."""
    if count * bits > 8 * len(data):
        raise ValueError(f"{len(data)} bytes hold fewer than {count} elements of {bits} bits")
    found = np.empty(count, np.uint8)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    for start in range(0, count, BLOCK):
        num = min(BLOCK, count - start)
        part = np.unpackbits(data[start * bits // 8 : -(-(start + num) * bits // 8)], bitorder="little")
        found[start : start + num] = part[: num * bits].reshape(num, bits) @ weights
    if not is_signed:
        return found
    half = 1 << (bits - 1)
    return ((found ^ half).astype(np.int16) - half).astype(np.int8)
