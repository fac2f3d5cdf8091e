"""The user's own settings: which backend, artifact, arithmetic and device is the fastest for a network on a machine.

`dbench pick` writes them, `drun --backend auto` reads them. They lie in the user's state folder.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from drun.bundle.reading import Bundle
from drun.errors import UserError, door
from drun.files import locked, write_json
from drun.foreign import parse_json
from drun.typed import typed
from drun.user_folders import STATE

RECORD = "picks.json"


@dataclass(frozen=True)
class Pick:
    """The fastest that was measured."""

    backend: str
    artifact: str  # its id
    arithmetic: str
    device: str
    ms: float  # an image and step


def pick_of(bundle: Bundle) -> Pick | None:
    """The pick for a bundle's network on this machine. Raises UserError if the record cannot be read."""
    return _read(STATE.folder / RECORD).get(_key(bundle))


def remember(bundle: Bundle, pick: Pick) -> Path:
    """Note a pick, in place of an earlier one -> the file. Raises UserError if it cannot be written."""
    path = STATE.make() / RECORD
    with locked(path.parent, wait=True):
        picks = _read(path) | {_key(bundle): pick}
        write_json(path, {key: asdict(one) for key, one in picks.items()}, mode=0o600)
    return path


def _key(bundle: Bundle) -> str:
    """The network, whatever else its bundle holds, and the machine: homes may lie on a network."""
    checkpoint = bundle.manifest.model.checkpoint
    facts = [checkpoint["sha256"], checkpoint["weights"], checkpoint["settings"], platform.node()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Pick]:
    with door(f"cannot read the picks '{path}'", UserError, "remove it, and type dbench pick again"):
        try:
            found = parse_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        picks: dict[str, Pick] = {key: typed(Pick, value, key) for key, value in found.items()}
        return picks
