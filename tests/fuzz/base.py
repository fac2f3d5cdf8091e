"""A kind of foreign content: how to make a file that is right, how to damage it, and how to read it.

`read` returns what was read where the format has checksums: damage that changes it was accepted. Else it returns None.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mutate import damage

from drun.bundle.hashes import seal
from drun.files import sha256

TESTS = Path(__file__).parents[1]


class Reader(ABC):
    """A kind of foreign content."""

    @abstractmethod
    def make(self, folder: Path) -> None:
        """Write what is right into an empty folder."""

    @abstractmethod
    def attack(self, folder: Path, draw: random.Random) -> None:
        """Damage a copy of it."""

    @abstractmethod
    def read(self, folder: Path) -> Any:
        """Read it as the commands do."""


class Bytes(Reader):
    """One of its files has other bytes."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        file.write_bytes(damage(file.read_bytes(), draw))


# ---- bundles --------------------------------------------------------------------------------------------


@cache
def helpers() -> ModuleType:
    """The small bundles of the tests."""
    sys.path.append(str(TESTS / "runtimes"))  # where they find their own helpers
    spec = importlib.util.spec_from_file_location("bundles_of_tests", TESTS / "runtimes" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def listed_anew(bundle: Path) -> None:
    """Let the manifest say that changed files are right."""
    path = bundle / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["sha256"]
    for entry in (fields["golden"], *(entry for artifact in fields["artifacts"] for entry in artifact["files"])):
        entry["sha256"] = sha256(bundle / entry["path"])
    path.write_text(seal(fields))
