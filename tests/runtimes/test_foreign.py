"""Whatever is wrong with foreign content is one sentence."""

from __future__ import annotations

import io
import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import DataError
from drun.files import write_json
from drun.foreign import map_npy, parse_json, read_json, read_npy, read_npz

# ---- JSON -----------------------------------------------------------------------------------------------


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None, "ä"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "ä"]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"[]", b"3", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}', b"[" * 100_000, b'{"a":' * 100 + b"1" + b"}" * 100, b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_broken_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read '.*a.json': .+; delete it and run again"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["missing.json", ".", "with\0nul"])
def test_json_that_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_json(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_npy, read_npz, map_npy):
        with pytest.raises(DataError, match="it is a pipe or a device, expected a file"):
            read(tmp_path / "pipe")


@settings(max_examples=200, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10,
))  # fmt: skip
def test_what_json_writes_is_read(value: Any) -> None:
    assert parse_json(json.dumps({"value": value})) == {"value": value}


# ---- arrays ---------------------------------------------------------------------------------------------

ARRAYS = {"a": np.arange(3), "b": np.array("text"), "c": np.zeros((2, 0), np.float32), "d": np.ones((2, 3), order="F")}


def same(got: dict[str, Any], expected: dict[str, Any]) -> bool:
    return list(got) == list(expected) and all(
        got[name].dtype == array.dtype and np.array_equal(got[name], array) for name, array in expected.items()
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_they_are(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    assert same(read_npz(tmp_path / "a.npz"), ARRAYS)


def npy(array: np.ndarray, **header: Any) -> bytes:
    """The bytes of an .npy file, with a header that may lie."""
    file = io.BytesIO()
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue() + array.tobytes()


def zipped(folder: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


WRONG_NPY = {
    "empty": b"", "text": b"hello", "cut header": npy(np.zeros(3))[:40], "cut": npy(np.zeros(3))[:-1],
    "longer": npy(np.zeros(3)) + b"!", "tokens": b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': (((((("[:16],
    "too large": npy(np.zeros(3), shape=(1 << 40,)), "negative": npy(np.zeros(3), shape=(-3,)),
    "overflow": npy(np.zeros(3), shape=(1 << 70, 0)) + b"x", "objects": npy(np.zeros(1), descr="|O"),
    "structure": npy(np.zeros(1), descr=[("x", "<f8")]), "no type": npy(np.zeros(1), descr="nonsense"),
    "version": b"\x93NUMPY\x09\x00" + npy(np.zeros(3))[8:],
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_NPY)
def test_a_wrong_array_is_one_sentence(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.npy").write_bytes(WRONG_NPY[kind])
    for read in (read_npy, map_npy):
        with pytest.raises(DataError, match=r"cannot read the array '.*a.npy': .+; copy it again"):
            read(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"cannot read the arrays of '.*a.npz': .+; copy it again"):
        read_npz(zipped(tmp_path, {"x.npy": WRONG_NPY[kind]}))


def test_one_array_is_read_and_mapped(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)
    mapped = map_npy(tmp_path / "a.npy")
    assert np.array_equal(mapped, array)
    assert not mapped.flags.writeable


def test_archives_that_are_no_npz(tmp_path: Path) -> None:
    for content in (b"", b"hello", npy(np.zeros(3))):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(DataError, match="cannot read the arrays of"):
            read_npz(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"'readme\.txt' is not a \.npy array"):
        read_npz(zipped(tmp_path, {"readme.txt": b"hello"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"x.npy": npy(np.zeros(3))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", npy(np.ones(3)))
    with pytest.raises(DataError, match="two of its members have one name"):
        read_npz(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"x.npy": npy(np.zeros(20_000_000))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"its [\d,]+ bytes expand to 160,000,\d+"):
        read_npz(path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_its_arrays_or_one_sentence(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) or None])
    with suppress(DataError):
        got = read_npz(path)
        assert all(name not in ARRAYS or np.array_equal(array, ARRAYS[name]) for name, array in got.items())
