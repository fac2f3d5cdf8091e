"""Families of published checkpoints: a file or folder each, which says whether a checkpoint is of it.

It holds `KNOWN`, which names the family for people, and `recognise(selection, given)`: the denoiser, or None if the
weights are of another family.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dtrain.checkpoints.layouts import Selection
from dtrain.published.denoiser import Denoiser


def recognise(selection: Selection, given: Mapping[str, str]) -> Denoiser | None:
    """What the weights of a file are, or None if no family knows them.

    Args:
        given: what the file does not say; see `dtrain.published.settings`.

    Raises:
        CheckpointError: weights that are nearly those of a family. ConfigError: a missing or wrong setting.
    """
    found = (family.recognise(selection, given) for family in _families())
    return next((denoiser for denoiser in found if denoiser is not None), None)


def known() -> str:
    """All families, for people."""
    return ", or ".join(family.KNOWN for family in _families())


def _families() -> list[Any]:
    return [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
