"""The networks that can be measured: those of checkpoints, and those of recipes with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbench.core import subject
from dbench.core.random_weights import SEED, write_random
from dbench.suites.graphs.settings import GraphsSettings
from drun.errors import ConfigError
from dtrain import config, published
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
        ConfigError: an unknown recipe or a wrong setting. CheckpointError: the file is not a checkpoint.
    """
    path = Path(settings.model)
    if path.is_file() and path.suffix != ".toml":
        denoiser = published.load(path, settings=_pairs(settings.assignments))
        own = {"name": path.stem, "checkpoint_sha256": denoiser.sha256}
        return Loaded(denoiser, own | _described(denoiser), denoiser.weights)
    recipe = config.load(settings.model, list(settings.assignments))
    denoiser = published.load(write_random(recipe, folder))
    return Loaded(denoiser, subject.of_recipe(recipe.to_dict()) | _described(denoiser), f"random, seed {SEED}")


def _pairs(assignments: tuple[str, ...]) -> dict[str, str]:
    if wrong := [text for text in assignments if "=" not in text]:
        raise ConfigError(f"--set got '{wrong[0]}', expected KEY=VALUE")
    return {key: value for key, _, value in (text.partition("=") for text in assignments)}


def _described(denoiser: Denoiser) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in denoiser.network.parameters())
    return {"model": denoiser.config, "parameters": count, "state": denoiser.card.data.shape}
