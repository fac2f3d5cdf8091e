"""Every setting of a recipe, read from the code that takes it.

The settings of a fixed section are the fields of its dataclass. Those of a model, a process or an objective are the
parameters of its constructor, which its docstring describes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter
from typing import Any

from drun.diffusion import process as processes
from drun.errors import ConfigError
from dtrain import models, objectives
from dtrain.config.complete import SIDES
from dtrain.config.sections import SECTIONS, Setting, settings_of
from dtrain.config.toml import toml

#: These words stand in place of a default: the setting is needed, or follows from another one.
NEEDED, FOLLOWS = "needed", "follows image_size"


@dataclass(frozen=True)
class Entry:
    """One setting. default: as TOML, or NEEDED, or FOLLOWS, or empty if there is none."""

    key: str
    default: str
    help: str


@dataclass(frozen=True)
class Listing:
    """The settings of a section, or those of a model, process or objective of these names or kinds."""

    section: str
    names: tuple[str, ...]
    summary: str
    entries: tuple[Entry, ...]


def listings() -> list[Listing]:
    """All listings in the order of a recipe; models with the same settings share one."""
    found: dict[tuple[str, tuple[Entry, ...]], Listing] = {}
    for section in ("model", "process", "objective"):
        for name in names(section):
            taken = tuple(entries(section, name))
            same = found.get((section, taken))
            listing = Listing(section, (name,), _summary(taker(section, name)), taken)
            found[section, taken] = listing if same is None else Listing(section, (*same.names, name), "", taken)
    fixed = [Listing(section, (), _summary(kind), tuple(entries(section))) for section, kind in SECTIONS.items()]
    return [*found.values(), *fixed]


def names(section: str) -> list[str]:
    """The values that a section's `name` or `kind` may have."""
    known = {"model": [*models.available()], "process": [*processes.KINDS], "objective": objectives.names()}
    return sorted(known[section])


def taker(section: str, name: str) -> type[Any]:
    """The class whose constructor takes the settings. Raises ConfigError for an unknown name."""
    if name not in names(section):
        raise ConfigError(f"unknown {section} '{name}': choose one of {', '.join(names(section))}")
    if section == "objective":
        return objectives.load(name)
    return models.available()[name] if section == "model" else processes.KINDS[name]


def entries(section: str, name: str = "") -> Iterator[Entry]:
    """The settings of a fixed section, or of the model, process or objective `name`, without `name` or `kind`.

    Raises:
        ConfigError: an unknown name.
    """
    if section in SECTIONS:
        yield from _fixed(SECTIONS[section])
        return
    kind = taker(section, name)
    texts = documented(kind)
    needed = processes.REQUIRED.get(name, ()) if section == "process" else ()
    for key, parameter in inspect.signature(kind).parameters.items():
        if section == "objective" and key in (*objectives.TOLD, "image_size"):
            continue
        follows = section == "model" and key in SIDES
        yield Entry(key, FOLLOWS if follows else NEEDED if key in needed else _default(parameter.default), texts[key])


def _fixed(kind: type[Any]) -> Iterator[Entry]:
    defaults = {field.name: field.default for field in fields(kind)}
    for key, setting in settings_of(kind).items():
        yield Entry(key, _default(defaults[key]), _help(setting))


def _help(setting: Setting) -> str:
    return setting.help + (f": {' | '.join(setting.choices)}" if setting.choices else "")


def _default(value: Any) -> str:
    if value in (Parameter.empty, MISSING):
        return NEEDED
    return "" if value is None else toml(value)


def documented(kind: type[Any]) -> dict[str, str]:
    """The texts on each parameter in the docstrings of a class and its bases: `name: text`, or `a, b: text`."""
    parameters, texts = inspect.signature(kind).parameters, dict.fromkeys(inspect.signature(kind).parameters, "")
    for base in reversed(kind.__mro__):
        texts |= _documented(inspect.cleandoc(base.__dict__.get("__doc__") or ""), parameters)
    return texts


def _documented(text: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    texts: dict[str, str] = {}
    heads: list[str] = []
    indentation = 0
    for line in text.splitlines():
        head, colon, rest = line.strip().partition(": ")
        indented = len(line) - len(line.lstrip())
        if colon and all(name in parameters for name in head.split(", ")):
            heads, indentation = head.split(", "), indented
            texts |= dict.fromkeys(heads, rest)
        elif heads and line.strip() and indented > indentation:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in heads}
        else:
            heads = []
    return {name: help.replace("`", "").rstrip(".") for name, help in texts.items()}


def _summary(kind: type[Any]) -> str:
    """The first sentence of a docstring, unless a dataclass generated it."""
    first = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("\n\n")[0]
    return "" if first.startswith(f"{kind.__name__}(") else re.sub(r"\s+", " ", first).rstrip(".")
