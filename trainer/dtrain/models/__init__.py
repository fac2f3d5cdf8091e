"""The model registry: every file in this folder with a `MODELS` table, imported when a model is built."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from drun.errors import ConfigError, door


def available() -> dict[str, type[nn.Module]]:
    """Model classes by name, from the `MODELS` table of every file in this folder."""
    files = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return {name: model for file in files for name, model in getattr(file, "MODELS", {}).items()}


def build(config: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised model from its configuration.

    config: `name` (a key of `available()`) and the constructor's keywords, as in
        {"name": "TwoResUNet", "dim": 64, "dim_mults": [1, 2, 4, 8], "channels": 3}.
        Every model keeps such a mapping as its `config`.

    Raises ConfigError for an unknown name, for keywords that are unknown, missing or wrong, and for too little memory.
    """
    keywords = dict(config)
    name = keywords.pop("name", None)
    _check_keywords(str(name), keywords, inspect.Signature(list(parameters(name).values())))
    with door(f"model {name} cannot be built", ConfigError, "change its settings"):
        return available()[str(name)](**keywords)


def parameters(name: Any) -> Mapping[str, inspect.Parameter]:
    """What the model `name` can be told, by keyword. Raises ConfigError for an unknown name."""
    models = available()
    if not isinstance(name, str) or name not in models:
        raise ConfigError(f"unknown model {name!r:.80}: choose one of {', '.join(sorted(models))}")
    return inspect.signature(models[name]).parameters


def _check_keywords(name: str, keywords: dict[str, Any], signature: inspect.Signature) -> None:
    try:
        signature.bind(**keywords)
    except TypeError as error:
        expected, unknown = ", ".join(signature.parameters), sorted(keywords.keys() - signature.parameters.keys())
        what = f"unknown setting 'model.{unknown[0]}'" if unknown else str(error)
        raise ConfigError(f"model {name} cannot be built: {what}; its settings are {expected}") from None
