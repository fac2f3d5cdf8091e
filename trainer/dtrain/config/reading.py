"""Recipes as dataclasses.

One precedence: `--set section.key=value`, then the recipe, then the defaults of the sections.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_type_hints

from drun.errors import ConfigError, door
from drun.typed import typed
from dtrain.config import files
from dtrain.config.complete import KINDS, check_complete, with_side
from dtrain.config.sections import SECTIONS, Recipe, plain, settings_of


def load(name: str, assignments: list[str] | None = None, data: str | None = None) -> Recipe:
    """Load a recipe by name or from a .toml file, and apply `section.key=value` assignments.

    The side of the model's input follows from `data.image_size` where the recipe leaves it out.

    Raises:
        ConfigError: an unknown or missing recipe, section or key, or a value of the wrong type.
    """
    sections = files.sections(name)
    for assignment in assignments or []:
        _assign(sections, assignment)
    if data is not None:
        sections.setdefault("data", {})["source"] = data
    own_name = Path(name).stem
    check_complete(own_name, sections)
    return from_dict({"name": own_name} | sections | {"model": with_side(sections)})


def from_dict(sections: dict[str, Any]) -> Recipe:
    """A recipe from `Recipe.to_dict` or a parsed TOML file. Raises ConfigError naming a wrong section or key."""
    name = sections.get("name")
    with door(f"recipe {name!r:.80} is wrong", ConfigError, "'dtrain settings' lists all settings"):
        for section, kind in SECTIONS.items():
            if unknown := sorted(sections.get(section, {}).keys() - get_type_hints(kind).keys()):
                expected = ", ".join(settings_of(kind))
                raise ConfigError(f"unknown setting '{section}.{unknown[0]}': choose from {expected}")
        recipe: Recipe = typed(Recipe, {key: _listed(value) for key, value in sections.items()}, "")
        return recipe


def _listed(value: Any) -> Any:
    """A value with its tuples as lists, as a file has them."""
    return plain(value) if isinstance(value, dict) else value


def _assign(sections: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set got '{assignment}', expected section.key=value such as train.steps=100")
    if section not in (*KINDS, *SECTIONS):
        raise ConfigError(
            f"--set got '{assignment}': unknown section '{section}', expected one of {', '.join((*KINDS, *SECTIONS))}"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        value = text.strip()
    sections.setdefault(section, {})[name] = value
