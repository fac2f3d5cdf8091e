"""Files appear under their final name only when they are complete."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError, UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it into place at the end, remove it on failure.

    Raises:
        UserError: the directory cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        cause = error.strerror or error
        raise UserError(f"cannot write '{path}': {cause}; what was finished before is kept") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` that takes its place at the end, or vanishes with its content on failure.

    Raises:
        UserError: the directory cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            folder, old = Path(scratch, "new"), Path(scratch, "old")
            folder.mkdir()
            yield folder
            if path.exists():
                os.replace(path, old)
            os.replace(folder, path)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}; nothing was left there") from error


def write_json(path: Path, value: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError if the file is no JSON object."""
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"'{path}' is not JSON ({error}): delete it and run again") from error
    if not isinstance(value, dict):
        raise UserError(f"'{path}' holds {type(value).__name__}, expected an object: delete it and run again")
    return value


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file.

    Raises:
        DataError: it is missing, broken or no .npz, or holds pickled objects, which are never loaded.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read the arrays of '{path}': {error}") from error


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
