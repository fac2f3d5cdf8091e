"""Files appear under their final name only when they are complete, and what a killed process left is swept away."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from drun.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked and nothing swept there
    fcntl = None  # type: ignore[assignment]

#: Looking for leftovers may take this share of the time: a folder of a million images is long.
SWEEP_SHARE = 0.02
#: renameat2's constants, from Linux's fcntl.h and fs.h
AT_FDCWD, RENAME_EXCHANGE = -100, 2

#: folder -> when it was last swept and how long that took, seconds
_swept: dict[Path, tuple[float, float]] = {}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; rename it into place at the end, remove it on failure.

    Raises:
        UserError: the directory cannot be written, or the disk is full.
    """
    with _written(path, "what was finished before is kept"), _scratch(path, is_folder=False) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` that takes its place at the end, or vanishes with its content on failure.

    Raises:
        UserError: the directory cannot be written, or the disk is full.
    """
    with _written(path, "nothing was left there"), _scratch(path, is_folder=True) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        if not path.exists():
            os.replace(folder, path)
        elif not _exchange(folder, path):
            os.replace(path, scratch / "old")
            os.replace(folder, path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; a kill lets go of it.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    with _written(folder, "choose another folder"):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(handle):
            raise UserError(f"another run is writing to '{folder}': wait for it, or choose another folder")
        yield
    finally:
        os.close(handle)
        if is_new:
            with suppress(OSError):  # unless something was written there
                folder.rmdir()


@contextmanager
def _written(path: Path, consolation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}; {consolation}") from error


@contextmanager
def _scratch(path: Path, is_folder: bool) -> Iterator[Path]:
    """A new file or folder beside `path` whose name nobody can foresee, locked as long as this process needs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    handle = None
    try:
        if is_folder:
            scratch.mkdir()
        handle = os.open(scratch, os.O_RDONLY if is_folder else os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if not _lock(handle):  # in the moment before it was locked
            raise BlockingIOError(None, "another process is sweeping there: run the command again")
        yield scratch
    finally:
        _remove(scratch)
        if handle is not None:
            os.close(handle)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at `path`: nobody holds the lock of these."""
    swept_at, took = _swept.get(path.parent, (0.0, 0.0))
    start = time.monotonic()
    if fcntl is None or (start - swept_at) * SWEEP_SHARE < took:
        return
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}\.part")
    with os.scandir(path.parent) as entries:
        found = [Path(entry.path) for entry in entries if leftover.fullmatch(entry.name)]
    for scratch in found:
        _sweep_one(scratch, path)
    end = time.monotonic()
    _swept[path.parent] = end, end - start


def _sweep_one(scratch: Path, path: Path) -> None:
    with suppress(OSError):
        handle = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if _lock(handle):
                if (scratch / "old").is_dir() and not path.exists():  # killed between two renames
                    os.replace(scratch / "old", path)
                _remove(scratch)
        finally:
            os.close(handle)


def _remove(scratch: Path) -> None:
    with suppress(OSError):
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink()


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed; False if another process has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks
        return True
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that a kill finds either; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def write_json(path: Path, value: Any) -> None:
    """Write a value that JSON knows, indented."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(source: Path | IO[bytes]) -> str:
    """Hexadecimal digest of a file, or of an open one from where it stands."""
    if not isinstance(source, Path):
        return hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
