"""Prints settings and recipes as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from drun.errors import ConfigError
from dtrain import settings
from dtrain.config import Recipe
from dtrain.config.complete import KINDS, SIDES, with_side
from dtrain.config.sections import SECTIONS
from dtrain.config.toml import toml, toml_key
from dtrain.settings import FOLLOWS, Entry, Listing

#: The characters of a line, and the column at which the comments begin.
WIDTH, COMMENTS_AT = 120, 40


# ---- all settings ---------------------------------------------------------------------------------------


def list_lines() -> Iterator[str]:
    """A line for every setting: `section.key`, its default, its meaning."""
    for listing in settings.listings():
        yield _title(listing)
        for entry in listing.entries:
            yield f"  {f'{listing.section}.{entry.key}':28} {entry.default:22} {entry.help}".rstrip()
        yield ""


def _title(listing: Listing) -> str:
    named = " or ".join(f'"{name}"' for name in listing.names)
    title = f"[{listing.section}]" + (f" {KINDS[listing.section]} = {named}" if named else "")
    return f"{title}  {listing.summary}".rstrip()


# ---- a whole recipe -------------------------------------------------------------------------------------


def recipe_lines(recipe: Recipe, about: Sequence[str]) -> Iterator[str]:
    """A recipe as complete TOML that loads to the same recipe, with the meaning of each setting.

    Settings that a recipe leaves to the model, process or objective stand at their defaults behind a `#`.

    Args:
        about: the lines of the comment at its head.
    """
    yield from (f"# {line}".rstrip() for line in about)
    for section in (*KINDS, *SECTIONS):
        yield ""
        yield f"[{section}]"
        yield from _section_lines(recipe, section)


def _section_lines(recipe: Recipe, section: str) -> Iterator[str]:
    values = recipe.to_dict()[section]
    if section in SECTIONS:
        described = list(settings.entries(section))
    else:
        key = KINDS[section]
        described = list(settings.entries(section, values[key]))
        yield _line(f"{key} = {toml(values[key])}", f"one of {', '.join(settings.names(section))}")
    for entry in described:
        yield from _entry_lines(entry, values, recipe)


def _entry_lines(entry: Entry, values: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    key = toml_key(entry.key)
    if entry.default == FOLLOWS and _follows(entry.key, recipe):
        text, help = f"#{key} = {toml(values[entry.key])}", f"follows data.image_size: {entry.help}"
    elif entry.key in values:
        text, help = f"{key} = {toml(values[entry.key])}", entry.help
    else:
        text, help = f"#{key} = {entry.default}".rstrip(), entry.help
    line = _line(text, help)
    if len(line) <= WIDTH:
        yield line
    else:
        yield from (f"# {part}" for part in textwrap.wrap(help, WIDTH - 2))
        yield text


def _line(text: str, help: str) -> str:
    return f"{text:{COMMENTS_AT}} # {help}"


def _follows(key: str, recipe: Recipe) -> bool:
    """Whether the recipe's side is the one that would follow without it."""
    without = {name: value for name, value in recipe.model.items() if name not in SIDES}
    try:
        found = with_side({"model": without, "data": {"image_size": recipe.data.image_size}})
    except ConfigError:
        return False
    return bool(found.get(key) == recipe.model.get(key))
