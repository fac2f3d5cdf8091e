"""The network that a user names: that of a checkpoint or, with random weights, of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbench.core.random_weights import write_random
from drun.commands.options import parse_assignments
from drun.errors import ConfigError
from dtrain import config, published
from dtrain.checkpoints import ours
from dtrain.config import Recipe
from dtrain.published import Denoiser


@dataclass(frozen=True)
class Origin:
    """A checkpoint, and the recipe that it was made of just now with random weights."""

    checkpoint: Path
    settings: Mapping[str, str]  # those that the checkpoint does not state, such as image_size
    recipe: Recipe | None = None  # None: a user's checkpoint

    @property
    def is_random(self) -> bool:
        """Whether nobody trained the weights: their speed is real, but not what int8 loses on them."""
        return self.recipe is not None

    def load(self) -> Denoiser:
        """The eager network.

        Raises:
            CheckpointError: it is not a checkpoint that is known here. ConfigError: a missing or wrong setting.
        """
        return published.load(self.checkpoint, settings=self.settings)


def find(model: str, assignments: Sequence[str], folder: Path) -> Origin:
    """What a user named: a checkpoint, the folder of a training run, or the name or .toml file of a recipe.

    Args:
        assignments: settings of the recipe, or those that the checkpoint does not state, as KEY=VALUE.
        folder: an empty one, for a checkpoint of a recipe's network.

    Raises:
        ConfigError: there is no such checkpoint or recipe, or a wrong setting. CheckpointError: a folder without one.
    """
    path = Path(model)
    if path.exists() and path.suffix != ".toml":
        return Origin(ours.located(path), parse_assignments([*assignments]))
    if path.suffix not in ("", ".toml"):
        raise ConfigError(f"no such checkpoint: '{model}'")
    recipe = config.load(model, [*assignments])
    return Origin(write_random(recipe, folder), {}, recipe)
