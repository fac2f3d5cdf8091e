"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

from drun.errors import DataError, UserError
from drun.files import atomic, read_json, read_npz, sha256, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    """Stop with `error` in the middle of a file."""
    with atomic(path) as temporary:
        temporary.write_text("half")
        raise error


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with atomic(folder / "b.txt") as temporary:
        temporary.write_text("new")
        assert temporary.parent == folder  # the same disk, so that the rename is atomic
        assert names(folder) == [temporary.name]
    assert names(folder) == ["b.txt"]
    assert (folder / "b.txt").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "b.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error())
    assert names(tmp_path) == ["b.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_a_user_error(tmp_path: Path) -> None:
    message = r"cannot write '.*b.txt': No space left on device; what was finished before is kept"
    with pytest.raises(UserError, match=message):
        write_half(tmp_path / "b.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    """Also for root, who may write anywhere else."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*file/a/b.txt': Not a directory"):
        write_json(tmp_path / "file" / "a" / "b.txt", {})


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None, "ä"]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "ä"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", r"a.json' is not JSON \(.*\): delete it and run again"),
        (b"\xff", r"a.json' is not JSON \(.*\): delete it and run again"),
        (b"[]", r"a.json' holds list, expected an object: delete it and run again"),
    ],
)
def test_broken_json_is_a_user_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json")


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3), "b": np.array("text"), "c": np.zeros((2, 0), np.float32)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    got = read_npz(tmp_path / "a.npz")
    assert list(got) == ["a", "b", "c"]
    assert all(got[name].dtype == array.dtype and np.array_equal(got[name], array) for name, array in arrays.items())


def broken_arrays(folder: Path) -> dict[str, Path]:
    """Things that are no .npz of plain arrays."""
    files = {kind: folder / f"{kind}.npz" for kind in ("text", "empty", "npy", "cut", "pickle", "packed")}
    files["text"].write_text("hello")
    files["empty"].write_bytes(b"")
    with files["npy"].open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(files["cut"], x=np.zeros(3))
    files["cut"].write_bytes(files["cut"].read_bytes()[:-10])
    np.savez(files["pickle"], x=np.array([None]))
    np.savez_compressed(files["packed"], x=np.arange(10_000))
    data = bytearray(files["packed"].read_bytes())
    data[500:600] = bytes(100)
    files["packed"].write_bytes(data)
    return files | {"missing": folder / "missing", "folder": folder}


@pytest.mark.parametrize("kind", ["text", "empty", "npy", "cut", "pickle", "packed", "missing", "folder"])
def test_a_file_that_is_no_npz_of_arrays(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=rf"cannot read the arrays of '{broken_arrays(tmp_path)[kind]}': .+"):
        read_npz(broken_arrays(tmp_path)[kind])


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
