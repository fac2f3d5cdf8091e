"""The hashes of a bundle: the manifest seals itself, and files must stay what was hashed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from drun.errors import BundleError
from drun.files import sha256

#: A manifest has this in the place of its hash while the hash is computed.
BLANK = "0" * 64

#: The facts that change when a file changes: device, inode, size, and the times of its content and of its name, ns.
Stamp = tuple[int, int, int, int, int]


def seal(fields: Mapping[str, Any]) -> str:
    """A manifest's JSON text, whose first `sha256` is the hash of the text with 64 zeros in its place."""
    text = json.dumps({"sha256": BLANK} | dict(fields), indent=2, allow_nan=False) + "\n"
    return text.replace(BLANK, hashlib.sha256(text.encode()).hexdigest(), 1)


def is_sealed(content: bytes, stated: str) -> bool:
    """Whether a manifest's bytes are those that were hashed.

    Args:
        stated: the `sha256` that the manifest states.
    """
    blank = content.replace(stated.encode(), BLANK.encode(), 1)
    return blank != content and hashlib.sha256(blank).hexdigest() == stated


def hashed(path: Path) -> tuple[str, Stamp]:
    """The sha256 of a file, and a stamp that tells later whether the file is still the same.

    Raises OSError if it cannot be read.
    """
    with path.open("rb") as file:
        return sha256(file), _stamp(os.fstat(file.fileno()))


def checked(path: Path, expected: str) -> Stamp:
    """Hash a file and compare; returns a stamp that tells later whether the file is still the same.

    Raises:
        BundleError: its sha256 is another. OSError: it cannot be read.
    """
    digest, stamp = hashed(path)
    check_digest(path, digest, expected)
    return stamp


def check_digest(path: Path, got: str, expected: str) -> None:
    """Raises BundleError if the sha256 of a file is another than its bundle says."""
    if got != expected:
        raise BundleError(
            f"'{path}' is damaged: sha256 got {got[:12]}…, expected {expected[:12]}…; copy it or export again"
        )


def check_same(path: Path, stamp: Stamp) -> None:
    """Raises BundleError if the file was replaced or written to since it was hashed."""
    if _stamp(path.stat()) != stamp:
        raise BundleError(f"'{path}' was changed while it was opened: nothing of it is used; run the command again")


def is_written_to(path: Path, stamp: Stamp) -> bool:
    """Whether the very file that was hashed was written to since. Another file may have taken its name."""
    with suppress(FileNotFoundError):
        now = _stamp(path.stat())
        return now[:2] == stamp[:2] and now[2:4] != stamp[2:4]
    return False


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
