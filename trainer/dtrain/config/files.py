"""The text and the sections of recipe files: ours in `dtrain/recipes`, and the user's. One may extend another."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from drun.errors import ConfigError, DataError, door
from drun.foreign import regular


def names() -> list[str]:
    found = (file.name for file in files("dtrain.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def text(name: str) -> str:
    """The TOML of a recipe of ours, or of a .toml file.

    Raises:
        ConfigError: there is no such recipe or file, or it cannot be read.
    """
    if name.endswith(".toml"):
        return _user_text(Path(name))
    if name not in names():
        raise ConfigError(f"unknown recipe '{name}': choose one of {', '.join(names())}, or give a .toml file")
    return files("dtrain.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def _user_text(path: Path) -> str:
    if not path.exists() or path.is_dir():
        raise ConfigError(f"no such file '{path}': begin a recipe by dtrain recipes fashion-unet --toml > {path.name}")
    with door(f"cannot read recipe '{path}'", ConfigError, "save it as UTF-8 text", DataError):
        return regular(path).read_text(encoding="utf-8")


def about(name: str) -> list[str]:
    """The comment at the head of a recipe, line by line: the first is its summary."""
    lines = []
    for line in text(name).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def summary(name: str) -> str:
    """The recipe's first comment line, empty if there is none."""
    return next(iter(about(name)), "")


def sections(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sections of a recipe file, laid over those of the recipe that it `extends`.

    A section with a `name` or `kind` replaces the whole section below it, because these decide what its other keys
    mean.

    Raises:
        ConfigError: no such recipe, no TOML, or keys outside of sections.
    """
    if name in above:
        raise ConfigError(f"recipe '{name}' extends itself, by {' and '.join(above)}: take one 'extends' out")
    with door(f"recipe '{name}' is not TOML", ConfigError, "mend it there"):
        own = tomllib.loads(text(name))
    base = own.pop("extends", None)
    if "name" in own:
        raise ConfigError(f"recipe '{name}' has a section 'name': a recipe has the name of its file")
    if alone := [key for key, values in own.items() if not isinstance(values, dict)]:
        raise ConfigError(f"recipe '{name}' has '{alone[0]}' outside of a section: put it below one such as [train]")
    if base is None:
        return own
    merged = sections(str(base), (*above, name))
    for section, values in own.items():
        merged[section] = values if {"name", "kind"} & set(values) else merged.get(section, {}) | values
    return merged
