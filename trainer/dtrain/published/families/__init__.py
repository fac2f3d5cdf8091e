"""Families of published checkpoints. A family is a file or folder that recognises its checkpoints.

It holds `KNOWN`, which names the family for people, and `recognise(selection, given)`, which gives the denoiser, or
None if the weights are of another family.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dtrain.checkpoints.layouts import Selection
from dtrain.published.denoiser import Denoiser


def recognise(selection: Selection, given: Mapping[str, str]) -> Denoiser | None:
    """The denoiser of the weights in a file, or None if no family recognises them.

    Args:
        given: settings that the file does not state; see `dtrain.published.settings`.

    Raises:
        CheckpointError: weights that are nearly those of a family. ConfigError: a missing or wrong setting.
    """
    found = (family.recognise(selection, given) for family in _families())
    return next((denoiser for denoiser in found if denoiser is not None), None)


def known() -> str:
    """The names of all families, for people."""
    return ", or ".join(family.KNOWN for family in _families())


def _families() -> list[Any]:
    return [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
