"""The user's own record of exports: the files that can execute code and that this user made on this machine.

It lies in `$DEXPORT_STATE`, else where the platform keeps the state of programs; never in a bundle, which may come from
anybody.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from drun.errors import NotTrusted, UserError, door
from drun.files import locked, write_json
from drun.foreign import parse_json
from drun.user_folders import STATE, check_ours

RECORD = "exports.json"
DIGEST = re.compile("[0-9a-f]{64}")


def is_trusted(sha256: str) -> bool:
    """Whether the record lists a file of these bytes.

    Raises:
        NotTrusted: others may write to the record, or it cannot be read.
    """
    try:
        return sha256 in _read(STATE.folder / RECORD)
    except UserError as error:
        raise NotTrusted(str(error)) from error


def check(path: Path, sha256: str, is_allowed: bool) -> None:
    """Raises NotTrusted for a file of native code, unless the user allows it, or made it here."""
    if not is_allowed and not is_trusted(sha256):
        raise NotTrusted(
            f"'{path}' can execute code when it is opened, and was not exported on this machine by you: "
            "add --trust if you trust who made it, export it yourself, or use another artifact or backend"
        )


def remember(sha256: str, what: str) -> None:
    """Trust a file from now on.

    Args:
        sha256: of its bytes, which this process has just made.
        what: the file in words, for people who read the record.

    Raises:
        UserError: the record cannot be written, others may write to it, or it cannot be read.
    """
    folder = STATE.make()
    with locked(folder, wait=True):
        exports = _read(folder / RECORD) | {sha256: what}
        write_json(folder / RECORD, exports, mode=0o600)


def _read(path: Path) -> dict[str, str]:
    """sha256 -> what it is; empty if there is no record yet."""
    advice = "remove it, and export again what you need"
    with door(f"cannot read the record of exports '{path}'", UserError, advice):
        try:
            with path.open("rb") as file:
                check_ours(path, os.fstat(file.fileno()), STATE)
                exports = parse_json(file.read())
        except FileNotFoundError:
            return {}
        for digest, what in exports.items():
            if not DIGEST.fullmatch(digest) or not isinstance(what, str):
                raise ValueError(f"it holds {digest!r:.80}, expected the sha256 of files and what they are")
        return exports
