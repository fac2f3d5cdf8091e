"""The suites. A suite is a folder that answers one question; its name is that of the `dbench` command.

A suite holds `Settings`, a frozen dataclass whose fields `dbench.core.options` makes the arguments and options of the
command, and `measure(settings, report) -> Result`, whose docstring's first line is the command's help. If its rows are
too many to be read, it holds `summary(result) -> Markdown`, and if published results belong into the README,
`digest([(name, result)]) -> Markdown`. If a table is not enough for a report, it holds `section(result) -> HTML`; if it
draws, `figures(result) -> {name: Chart}`, and if it shows images, `pictures(settings, result) -> {name: uint8 (H, W,
C)}`, whose files `section(result, {name: Path})` gets where they lie beside the result. If a result can say that
something is wrong, it holds `failure(result) -> sentence or None`, with which the command ends after all is written.

The folder's `__init__.py` is imported for every `dbench --help`, so it imports what computes inside its functions; and
`section` must not import torch, for a report is made where results are, not only where they were measured.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbench.core.record import Result


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of a suite."""
    return import_module(f"{__name__}.{name}")


def summary(result: Result) -> str | None:
    """The Markdown of a result whose suite has a `summary`; None if its rows are to be shown."""
    suite = load(result.suite)
    return str(suite.summary(result)) if hasattr(suite, "summary") else None
