"""A kind of foreign content: how to make a file that is right, how to damage it, and how to read it.

`read` returns what was read where the format has checksums: damage that changes it was accepted. Else it returns None.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from mutate import damage


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
