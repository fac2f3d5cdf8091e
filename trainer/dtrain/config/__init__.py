"""Recipes describe training runs. They are frozen dataclasses, read from `recipes/*.toml`."""

from dtrain.config.complete import lacking
from dtrain.config.files import about, names, summary, text
from dtrain.config.reading import from_dict, load
from dtrain.config.sections import KNOWN_FROM_DATA, Data, Ema, Optimizer, Recipe, Setting, Train

__all__ = [
    "KNOWN_FROM_DATA", "Data", "Ema", "Optimizer", "Recipe", "Setting", "Train", "about", "from_dict", "lacking",
    "load", "names", "summary", "text",
]  # fmt: skip
