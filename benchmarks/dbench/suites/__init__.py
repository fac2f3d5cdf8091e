"""The measurements: one question a file or folder, whose name is the suite's and that of its `dbench` command.

A suite holds `Settings`, a frozen dataclass, `measure(settings, report) -> Result` and `section(result) -> HTML` for a
report; if it draws, `figures(result) -> {name: Chart}`, and if it shows images, `pictures(settings, result) -> {name:
uint8 (H, W, C)}`, whose files `section(result, {name: Path})` gets where they lie beside the result. Importing it must
not import torch: a report is made where results are, not only where they were measured.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of a suite."""
    return import_module(f"{__name__}.{name}")
