"""The doors for foreign content: files that anybody may have written, cut short or damaged.

Every reader of such content stands behind a door, and whatever goes wrong there is one sentence. Nothing that is read
here is ever executed, and nothing asks for much more memory than its file is large.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError, UserError, door

#: The most levels of a JSON file; our own have fewer than ten.
MAX_JSON_DEPTH = 64
#: How many times compressed arrays may expand. Our own are not compressed, and zeros shrink a thousand times.
MAX_EXPANSION, FREE_EXPANSION_BYTES = 100, 1 << 26
#: The kinds of dtypes that are read: bool, integers, floats, complex numbers and text.
ARRAY_KINDS = "biufcU"


def regular(path: Path) -> Path:
    """The path of a regular file. Raises FileNotFoundError if there is nothing, ValueError for anything else."""
    if path.is_file():
        return path
    if not path.exists():
        raise FileNotFoundError(None, "there is no such file")
    raise ValueError(f"it is {'a folder' if path.is_dir() else 'a pipe or a device'}, expected a file")


# ---- JSON -----------------------------------------------------------------------------------------------


def read_json(path: Path, kind: type[UserError] = DataError, advice: str = "delete it and run again") -> dict[str, Any]:
    """The object in a JSON file, without NaN, infinity and text that cannot be written.

    Raises:
        UserError: of `kind`, if the file is missing or anything else.
    """
    with door(f"cannot read '{path}'", kind, advice):
        return parse_json(regular(path).read_bytes())


def parse_json(content: str | bytes) -> dict[str, Any]:
    """The object in JSON text, by the rules of `read_json`.

    Any exception of the reader passes, so it is called behind a door.
    """
    value = json.loads(content, parse_constant=_no_constant, parse_float=_finite)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, expected a JSON object")
    _check_json(value, MAX_JSON_DEPTH)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, expected finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_constant(text)


def _check_json(value: Any, depth: int) -> None:
    if depth == 0:
        raise RecursionError
    if isinstance(value, str):
        value.encode()  # lone surrogates raise UnicodeEncodeError
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth - 1)
    elif isinstance(value, dict):
        _check_json(list(value), depth)
        _check_json(list(value.values()), depth)


# ---- arrays ---------------------------------------------------------------------------------------------


def read_npz(path: Path, file: IO[bytes] | None = None, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, of which every checksum holds.

    Args:
        file: the same file, if it is open already.
        only: the names of the arrays to read; None is all.

    Raises:
        DataError: it is missing, damaged, or holds something else than arrays of numbers and text.
    """
    with door(f"cannot read the arrays of '{path}'"), _members(path, file) as (archive, members):
        chosen = [name for name in members if only is None or name in only]
        return {name: _read_member(archive, members[name]) for name in chosen}


def npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of the arrays of an .npz file, without reading the arrays. Raises DataError as `read_npz`."""
    with door(f"cannot read the arrays of '{path}'"), _members(path) as (archive, members):
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                shape, _, dtype = _read_header(file, member.file_size)
            headers[name] = shape, dtype
        return headers


@contextmanager
def _members(path: Path, file: IO[bytes] | None = None) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An opened .npz file, and its members by the names of the arrays. Any exception of the reader passes."""
    size = regular(path).stat().st_size
    with zipfile.ZipFile(file or path) as archive:
        members = archive.infolist()
        if not members:  # raised by an archive whose end is damaged
            raise ValueError("it holds no arrays")
        check_expansion(size, sum(member.file_size for member in members))
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two of its members have one name")
        if others := [member.filename for member in members if not member.filename.endswith(".npy")]:
            raise ValueError(f"its member '{others[0]}' is not a .npy array")
        yield archive, {member.filename.removesuffix(".npy"): member for member in members}


def check_expansion(size: int, expanded: int) -> None:
    """Raises ValueError for compressed content that expands too much; both sizes are in bytes."""
    if expanded > max(FREE_EXPANSION_BYTES, MAX_EXPANSION * size):
        raise ValueError(f"its {size:,} bytes expand to {expanded:,}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        array = _read_array(file, member.file_size)
        file.read(1)  # the end, where zipfile compares the checksum
        return array


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy file, in memory.

    Raises:
        DataError: it is missing, cut short, too long, or holds something else than numbers or text.
    """
    with door(f"cannot read the array '{path}'"), regular(path).open("rb") as file:
        return _read_array(file, path.stat().st_size)


def map_npy(path: Path) -> np.memmap[Any, Any]:
    """The array of an .npy file as a read-only memory map.

    Raises DataError as `read_npy` does, and for an empty array.
    """
    with door(f"cannot read the array '{path}'"):
        with regular(path).open("rb") as file:
            shape, fortran, dtype = _read_header(file, path.stat().st_size)
            offset = file.tell()
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    shape, fortran, dtype = _read_header(file, size)
    array: NDArray[Any] = np.empty(math.prod(shape), dtype)
    fill(array, file)
    return array.reshape(shape, order="F" if fortran else "C")


def fill(array: NDArray[Any], file: IO[bytes]) -> None:
    """Read the bytes of a flat array. Raises ValueError if the file ends before."""
    left = array.view(np.uint8).data if array.nbytes else memoryview(b"")
    while left and (count := file.readinto(left)):  # type: ignore[attr-defined]
        left = left[count:]
    if left:
        raise ValueError("it is cut short")


def _read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype, if exactly the bytes of such an array follow. size: of the whole file, bytes."""
    form: Any = np.lib.format  # its functions carry no types
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    version = form.read_magic(file)
    if version not in readers:
        raise ValueError(f"its header has version {version}, expected 1.0 or 2.0")
    shape, fortran, dtype = readers[version](file)
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"it holds {dtype}, expected numbers")
    expected, got = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or got != expected:
        raise ValueError(f"its {dtype} {shape} needs {expected:,} bytes, {got:,} follow")
    return shape, fortran, dtype
