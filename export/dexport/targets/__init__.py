"""What a bundle can hold: one file each, and the file name is the target's name and its `dexport` command.

A file holds `export(network, io, batch, folder) -> Artifact` without parity, written into `folder`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of a target."""
    return import_module(f"{__name__}.{name}")
