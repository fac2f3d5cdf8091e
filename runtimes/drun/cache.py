"""The cache of what is costly to make and can be made again. All runs share it; an entry is a folder.

It lies in `$DEXPORT_CACHE`, else where the platform keeps caches. Above MAX_BYTES the least recently used entries are
removed, but never the one that was just written.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drun.errors import DataError, UserError
from drun.files import atomic, locked, sha256, write_json
from drun.foreign import read_json
from drun.user_folders import CACHE

MAX_BYTES = 32 << 30
VARIABLE = CACHE.variable
RECORD = "entry.json"
#: Nothing else in the folder is ever touched: the user may have named one that holds other things, too.
KEY = re.compile("[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class CacheEntry:
    folder: Path
    what: str  # in words
    num_bytes: int
    used_at: float  # seconds since the epoch


def root() -> Path:
    """The folder of all entries, which may not exist yet.

    Raises:
        UserError: nothing says where it is, or others may write there.
    """
    return CACHE.folder


def fetch(
    key: str, name: str, what: str, num_bytes: int, write: Callable[[Path], object], read: Callable[[Path], T]
) -> T:
    """Read a file of the cache, which is written first unless it is there as it was written, byte for byte.

    A second process that wants the same file waits for the first.

    Args:
        key: the sha256 of all that the content follows from.
        name: the name of the file.
        what: the content in words, for people.
        num_bytes: the bytes that it will take.
        write: makes the file under a temporary name.
        read: opens the file; its result must stay usable when the file is unlinked.

    Raises:
        UserError: the cache cannot be written, or has no room.
    """
    folder = CACHE.make() / key
    with _usable(folder), locked(folder, wait=True):
        if not _is_whole(folder, name):
            _check_room(folder.parent, folder.parent, num_bytes)
            (folder / RECORD).unlink(missing_ok=True)  # first: no old record may ever stand beside a new file
            with atomic(folder / name) as unfinished:
                write(unfinished)
                digest = sha256(unfinished)
            write_json(folder / RECORD, {"what": what, "name": name, "sha256": digest})
            _shrink(folder)
        os.utime(folder)
        return read(folder / name)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot use the cache '{folder}': {error.strerror or error}; set {VARIABLE} to another folder"
        ) from error


def forget(key: str) -> None:
    """Remove one entry, unless a process is using it."""
    _remove(root() / key)


def folder_of(key: str, what: str) -> Path:
    """The folder of an entry that a library fills by itself, for this user alone.

    Args:
        key, what: see `fetch`.

    Raises:
        UserError: the cache cannot be written.
    """
    folder = CACHE.make() / key
    with _usable(folder), locked(folder, wait=True):
        write_json(folder / RECORD, {"what": what})
        _shrink(folder)
    return folder


def check(key: str, name: str, num_bytes: int) -> None:
    """Whether `fetch` could write a file that is not there, as far as can be seen without writing.

    Raises:
        UserError: the cache cannot be written, or has no room.
    """
    folder = root()
    if (folder / key / name).is_file():
        return
    parent = next(place for place in (folder, *folder.parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"cannot write the cache '{folder}': '{parent}' takes no new folders; set {VARIABLE} to another folder"
        )
    _check_room(parent, folder, num_bytes)


def _is_whole(folder: Path, name: str) -> bool:
    """Whether every byte is as it was written. This takes about a second a gigabyte."""
    try:
        record = read_json(folder / RECORD)
        return record.get("name") == name and record.get("sha256") == sha256(folder / name)
    except (DataError, OSError):  # absent, or not ours
        return False


def _check_room(place: Path, folder: Path, num_bytes: int) -> None:
    """place: on the disk of the cache, which may not exist yet."""
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise UserError(
            f"the cache needs {num_bytes:,} bytes, and '{folder}' has {free:,} left: free some space, by "
            f"drun cache --clear for one, or set {VARIABLE} to another folder"
        )


# ---- all of it ------------------------------------------------------------------------------------------


def entries() -> list[CacheEntry]:
    """The entries of the cache, the most recently used first."""
    folder = root()
    places = [place for place in folder.iterdir() if KEY.fullmatch(place.name)] if folder.is_dir() else []
    return sorted(map(_entry, places), key=lambda entry: -entry.used_at)


def _entry(folder: Path) -> CacheEntry:
    try:
        what = str(read_json(folder / RECORD).get("what"))
    except DataError:
        what = "unfinished"
    with suppress(FileNotFoundError):  # another process removes it now
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return CacheEntry(folder, what, sum(sizes), folder.stat().st_mtime)
    return CacheEntry(folder, what, 0, 0.0)


def clear() -> int:
    """Remove all entries except those that a process is using. Returns the bytes that this freed."""
    return sum(entry.num_bytes for entry in entries() if _remove(entry.folder))


def _shrink(kept: Path) -> None:
    """Remove the least recently used entries until the rest is below the cap."""
    total = 0
    for entry in sorted(entries(), key=lambda entry: entry.folder != kept):
        total += entry.num_bytes
        if total > MAX_BYTES and entry.folder != kept:
            _remove(entry.folder)


def _remove(folder: Path) -> bool:
    try:
        with locked(folder):
            shutil.rmtree(folder)
    except (UserError, OSError):  # in use
        return False
    return True
