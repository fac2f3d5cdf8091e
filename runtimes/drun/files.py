"""Files appear under their final name only when they are complete; leftovers of killed processes are swept away."""

from __future__ import annotations

import ctypes
import errno
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

from drun.errors import OS_ADVICE, Busy, UserError

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked and nothing is swept
    fcntl = None  # type: ignore[assignment]

#: The search for leftovers may take this share of the time, because a folder may hold a million images.
SWEEP_SHARE = 0.02
#: A temporary file or folder of this module.
LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part", re.DOTALL)
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
    path = path.resolve()  # the folder behind a link is replaced, not the link
    consolation = "what was there before is kept" if path.exists() else "nothing was left there"
    with _written(path, consolation), _scratch(path, is_folder=True) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        if not path.exists():
            os.replace(folder, path)
        elif not _exchange(folder, path):
            os.replace(path, scratch / "old")
            try:
                os.replace(folder, path)
            except OSError:
                os.replace(scratch / "old", path)
                raise


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone. The lock ends with the process.

    Args:
        wait: wait until another process releases the folder.

    Raises:
        Busy: another process holds it. UserError: it cannot be written.
    """
    is_new = not folder.exists()
    handle = _open_locked(folder, wait)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # fails if something was written there
                folder.rmdir()
        os.close(handle)  # closed last: a process that waits must not get a folder that is about to vanish


def _open_locked(folder: Path, wait: bool) -> int:
    """A handle of the folder, which is made if it is missing: the process that held it may have removed it."""
    while True:
        with _written(folder, "choose another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        if not _lock(handle, wait):
            os.close(handle)
            raise Busy(f"another run is writing to '{folder}': wait for it, or choose another folder")
        if _is_at(handle, folder):
            return handle
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file or folder still has this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


@contextmanager
def _written(path: Path, consolation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = OS_ADVICE[error.errno] if error.errno in (errno.EMFILE, errno.ENFILE) else consolation
        raise UserError(f"cannot write '{path}': {error.strerror or error}; {advice}") from error


@contextmanager
def _scratch(path: Path, is_folder: bool) -> Iterator[Path]:
    """A new file or folder beside `path` with an unpredictable name, locked as long as this process needs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    scratch, handle = path, None
    try:
        while handle is None:
            scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
            handle = _create(scratch, is_folder)
        yield scratch
    finally:
        if scratch != path:
            _remove(scratch)
        if handle is not None:
            os.close(handle)


def _create(scratch: Path, is_folder: bool) -> int | None:
    """A handle of a new file or folder that is locked; None if another process swept it before it was."""
    if is_folder:
        scratch.mkdir()
    handle = os.open(scratch, os.O_RDONLY if is_folder else os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    if _lock(handle):
        return handle
    os.close(handle)
    return None


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder: no process holds their locks."""
    swept_at, took = _swept.get(folder, (0.0, 0.0))
    start = time.monotonic()
    if fcntl is None or (start - swept_at) * SWEEP_SHARE < took:
        return
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if LEFTOVER.fullmatch(entry.name)]
    for scratch in found:
        _sweep_one(scratch)
    end = time.monotonic()
    _swept[folder] = end, end - start


def _sweep_one(scratch: Path) -> None:
    with suppress(OSError):
        handle = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if _lock(handle):
                match = LEFTOVER.fullmatch(scratch.name)
                path = scratch.with_name(match[1]) if match else scratch
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


def _lock(handle: int, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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


def write_json(path: Path, value: Any, mode: int | None = None) -> None:
    """Write a value that JSON knows, indented.

    Args:
        mode: the file's permissions; None: the user's usual ones.
    """
    with atomic(path) as temporary:
        if mode is not None:
            temporary.chmod(mode)
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(source: Path | IO[bytes]) -> str:
    """Hexadecimal digest of a file, or of an open one from where it stands."""
    if not isinstance(source, Path):
        return hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
