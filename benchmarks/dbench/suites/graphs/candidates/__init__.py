"""The candidates: every public function of every file here. The function's name, with dashes, is the candidate's name.

A candidate takes an `Original` and returns an `Attempt`: the file of a graph, and how ONNX Runtime is to open it. The
first line of its docstring says what it is. It raises ExportError if the network has nothing that it could change; the
result then names it as left out.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dbench.suites.graphs.source import Original

#: Changes an `onnxruntime.SessionOptions`.
Adjust = Callable[[Any], None]


def unchanged(options: Any) -> None:
    """The options of `drun`."""


@dataclass(frozen=True)
class Attempt:
    """A graph, and the options of the session that runs it."""

    path: Path
    adjust: Adjust = unchanged


Candidate = Callable[[Original], Attempt]


def found() -> dict[str, Candidate]:
    """All candidates by name, file by file, in the order in which a file defines them."""
    files = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return {name.replace("_", "-"): function for file in files for name, function in _defined(file)}


def _defined(file: Any) -> list[tuple[str, Candidate]]:
    functions = inspect.getmembers(file, inspect.isfunction)
    own = [(name, one) for name, one in functions if one.__module__ == file.__name__ and not name.startswith("_")]
    return sorted(own, key=lambda pair: pair[1].__code__.co_firstlineno)


def summary(candidate: Candidate) -> str:
    """The first line of its docstring, without the full stop."""
    return (candidate.__doc__ or "").partition("\n")[0].rstrip(".")
