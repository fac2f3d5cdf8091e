"""weight.bin: what coremltools wrote, layouts written by hand, and damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from drun.mil.blobs import Blobs, unpacked
from drun.mil.types import TensorType


def blob_file(path: Path, number: int, content: bytes, padding: int = 0) -> Path:
    """A file of one constant, by the layout of MILBlob."""
    head = struct.pack("<II", 1, 2) + bytes(56)
    record = struct.pack("<IIQQQ", 0xDEADBEEF, number, len(content), 128, padding) + bytes(32)
    path.write_bytes(head + record + content)
    return path


@pytest.mark.parametrize(
    ("bits", "values", "content", "padding", "number"),
    [
        (3, [1, 2, 3, 4, 5, 6, 7], "d1581f", 3, 12),
        (6, [63, 1, 2, 3, 33], "7f200c21", 2, 13),
        (1, [1, 0, 0, 1, 1, 0, 0, 0, 1], "1901", 7, 9),
        (2, [2, 3, 1], "1e", 2, 10),
        (4, [15, 1, 8], "1f08", 4, 11),
    ],
)
def test_small_unsigned_integers(
    tmp_path: Path, bits: int, values: list[int], content: str, padding: int, number: int
) -> None:
    path = blob_file(tmp_path / "w.bin", number, bytes.fromhex(content), padding)
    found = Blobs(path).read(64, TensorType(f"uint{bits}", (len(values),)))
    assert (found.dtype, found.tolist()) == (np.uint8, values)


def test_int4_has_a_sign(tmp_path: Path) -> None:
    path = blob_file(tmp_path / "w.bin", 8, bytes.fromhex("783f02"), 4)
    found = Blobs(path).read(64, TensorType("int4", (5,)))
    assert (found.dtype, found.tolist()) == (np.int8, [-8, 7, -1, 3, 2])


def test_many_small_integers_are_unpacked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drun.mil.blobs.BLOCK", 16)
    values = np.random.default_rng(0).integers(0, 8, 100)
    bits = (values[:, None] >> np.arange(3)) & 1
    packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little")
    assert unpacked(packed, 3, 100).tolist() == values.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int32, np.uint16])
def test_whole_bytes_stay_on_the_disk(tmp_path: Path, dtype: type) -> None:
    numbers = {"float16": 1, "float32": 2, "uint8": 3, "int8": 4, "uint16": 7, "int32": 14}
    names = {"float16": "fp16", "float32": "fp32"}
    values = np.arange(24).astype(dtype)
    path = blob_file(tmp_path / "w.bin", numbers[values.dtype.name], values.tobytes())
    found = Blobs(path).read(64, TensorType(names.get(values.dtype.name, values.dtype.name), (2, 12)))
    assert (found.dtype, found.tolist()) == (values.dtype, values.tolist())
    assert isinstance(found, np.memmap)


def test_what_coremltools_wrote(tmp_path: Path) -> None:
    from mil_programs import Case, library, write

    weight = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    case = Case("linear", lambda mb, a: mb.linear(x=a, weight=weight), [np.zeros((1, 40), np.float32)])
    package = write([case], tmp_path)
    path = package.path.parent / "weights" / "weight.bin"
    assert library().__version__ == "9.0"
    np.testing.assert_array_equal(Blobs(path).read(64, TensorType("fp32", (6, 40))), weight.reshape(-1))


FOUR = TensorType("fp32", (4,))


@pytest.mark.parametrize("offset", [0, 1, 63, 65, 128, 192, 1 << 40, -64])
def test_an_offset_that_is_no_record_is_refused(tmp_path: Path, offset: int) -> None:
    path = blob_file(tmp_path / "w.bin", 2, bytes(100))
    with pytest.raises(ValueError, match=r"'w\.bin' at .* has no record"):
        Blobs(path).read(offset, FOUR)


@pytest.mark.parametrize(
    ("number", "content", "padding", "expected", "message"),
    [
        (1, bytes(16), 0, FOUR, "holds fp16, expected fp32"),
        (99, bytes(16), 0, FOUR, "holds type 99"),
        (2, bytes(12), 0, FOUR, "holds 12 bytes"),
        (2, bytes(20), 0, FOUR, "holds 20 bytes"),
        (2, bytes(16), 1 << 60, FOUR, "holds 16 bytes"),
        (11, bytes(2), 0, TensorType("uint4", (3,)), "holds 2 bytes"),
    ],
)
def test_a_record_of_something_else_is_refused(
    tmp_path: Path, number: int, content: bytes, padding: int, expected: TensorType, message: str
) -> None:
    path = blob_file(tmp_path / "w.bin", number, content, padding)
    with pytest.raises(ValueError, match=message):
        Blobs(path).read(64, expected)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = blob_file(tmp_path / "w.bin", 2, bytes(16))
    whole = path.read_bytes()
    for length in (0, 63, 100, 127, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut short|no record|holds 16 bytes"):
            Blobs(path).read(64, FOUR)
    path.write_bytes(whole[:4] + b"\1" + whole[5:])
    with pytest.raises(ValueError, match="has version 1 of its format, expected 2"):
        Blobs(path)
