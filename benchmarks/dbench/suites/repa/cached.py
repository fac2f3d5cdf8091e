"""Keeps measurements of a checkpoint beside it, so that an interrupted benchmark continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drun.errors import door
from drun.files import sha256, write_json
from drun.foreign import read_json

#: Raise it when the same checkpoint and settings give other numbers.
VERSION = 1


def remember(
    checkpoint: Path, what: str, settings: Mapping[str, Any], measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """`measure()`, or its recorded result for the same content and settings.

    Args:
        checkpoint: the measured checkpoint; the record is `<its stem>.<what>.json` in the same folder.
        settings: everything else that the numbers depend on, in JSON's types: lists, no tuples.

    Raises:
        UserError: the record is not JSON, or cannot be written.
    """
    path = checkpoint.with_suffix(f".{what}.json")
    key = {"version": VERSION, "checkpoint_sha256": sha256(checkpoint), **settings}
    if path.is_file() and (held := read_json(path)).get("key") == key:
        with door(f"'{path}' is not a record of dbench", advice="delete it and run again"):
            return dict(held["measured"])
    measured = measure()
    write_json(path, {"key": key, "measured": measured})
    return measured
