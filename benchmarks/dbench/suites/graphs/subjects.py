"""The networks that can be measured: those of checkpoints, and those of recipes with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbench.core import networks, subject
from dbench.core.random_weights import SEED
from dbench.suites.graphs.settings import GraphsSettings
from dtrain.published import Denoiser


@dataclass(frozen=True)
class Loaded:
    """A network, and what a result says of it."""

    denoiser: Denoiser
    subject: dict[str, Any]
    weights: str  # in words


def load(settings: GraphsSettings, folder: Path) -> Loaded:
    """The network of a checkpoint or, with random weights, of a recipe.

    Args:
        folder: an empty one, for a checkpoint of a recipe's network.

    Raises:
        ConfigError: see `networks.find`. CheckpointError: the file is not a checkpoint.
    """
    origin = networks.find(settings.model, settings.assignments, folder)
    denoiser = origin.load()
    if origin.recipe is not None:
        own, weights = subject.of_recipe(origin.recipe.to_dict()), f"random, seed {SEED}"
    else:
        own, weights = {"name": origin.checkpoint.stem, "checkpoint_sha256": denoiser.sha256}, denoiser.weights
    return Loaded(denoiser, own | _described(denoiser), weights)


def _described(denoiser: Denoiser) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in denoiser.network.parameters())
    return {"model": denoiser.config, "parameters": count, "state": denoiser.card.data.shape}
