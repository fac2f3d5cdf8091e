"""Scans a folder: the files below it, and a fingerprint of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from drun.errors import DataError, door, reason
from dtrain.data.image_files import HIDDEN, check_name

#: Relative path -> size in bytes, and time in ns.
Listing = dict[str, tuple[int, int]]


def scan(folder: Path, suffixes: tuple[str, ...]) -> Listing:
    """Files below `folder` by their relative path, with size (bytes) and time (ns); no hidden ones. One pass.

    Raises:
        DataError: a folder or file that cannot be looked at, or whose name is not UTF-8.
    """
    found: Listing = {}
    pending = [(folder, "")]
    while pending:
        place, prefix = pending.pop()
        with door(f"cannot look through '{place}'", DataError, "repair or remove it"), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(HIDDEN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
                elif entry.name.lower().endswith(suffixes):
                    check_name(prefix + entry.name, folder)
                    found[prefix + entry.name] = _stamp(entry)
    return found


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError as error:  # such as a broken link
        raise DataError(f"cannot look at '{entry.path}': {reason(error)}; repair or remove it") from error
    return stat.st_size, stat.st_mtime_ns


def fingerprint(*listings: Mapping[str, tuple[int, int]]) -> str:
    """sha256 of names, sizes and times, in any order of the files."""
    digest = hashlib.sha256()
    for listing in listings:
        digest.update(b"\0")
        for name in sorted(listing):
            digest.update(f"{name}\0{listing[name]}\n".encode())
    return digest.hexdigest()
