"""Teachers and networks of features: those that are there, those that a recipe trains first, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dbench.core.stand_ins import random_published
from dbench.suites.repa.training import check_same, named, placement_of
from drun.console import Report
from drun.errors import ConfigError
from dtrain import config, models, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe
from dtrain.teachers import TEACHERS
from dtrain.train.loop import train

#: That of recipes: a random network is what a trained one was before its first step, so that training alone differs.
RANDOM_SEED = 0


@dataclass(frozen=True)
class Encoders:
    """Where encoders of a comparison's images come from, and where those lie that it makes.

    Args:
        like: the recipe whose images they see. folder: of the comparison.
    """

    like: Recipe
    folder: Path

    def recipe_of(self, spec: str) -> Recipe | None:
        """The recipe that has to be trained for `spec`: one by name, or a folder that is not there and is called so.

        A folder of this comparison is its own work, which may have been interrupted.

        Raises:
            ConfigError: a recipe of something else than an encoder, or of another size of images.
        """
        name = Path(spec).name
        is_another = Path(spec).exists() and Path(spec).resolve() != (self.folder / name).resolve()
        if spec.partition("=")[0] in TEACHERS or is_another or name not in config.names():
            return None
        recipe = config.load(name, ["train.num_previews=1"])
        if not issubclass(models.available()[str(recipe.model["name"])], models.Encoder):
            raise ConfigError(f"recipe '{name}' trains no encoder, but a {recipe.model['name']}: choose another one")
        if recipe.data.image_size != self.like.data.image_size:
            got = f"recipe '{name}' takes images of {recipe.data.image_size} pixels"
            raise ConfigError(f"{got}, '{self.like.name}' has {self.like.data.image_size}: choose another one")
        return replace(recipe, data=replace(recipe.data, source=self.like.data.source))

    def check(self, spec: str, device: torch.device, is_teacher: bool) -> None:
        """Find out before the first step what would fail after the training of a teacher.

        Raises:
            ConfigError: see `recipe_of` and `dtrain.teachers.load`, or a teacher with other tokens than the network.
            CheckpointError: weights that are missing or damaged.
        """
        recipe, network = self.recipe_of(spec), models.outline(self.like.model)
        if recipe is None:
            encoder: Any = teachers.load(spec, self.like.data.image_size, device)
        else:
            encoder = models.outline(recipe.model)
        wanted = getattr(network, "num_tokens", encoder.num_tokens)
        if is_teacher and encoder.num_tokens != wanted:
            got = f"teacher '{spec}' gives {encoder.num_tokens} tokens, '{self.like.name}' has {wanted}"
            raise ConfigError(f"{got}: choose a patch size or teacher with as many")

    def trained(self, spec: str, report: Report) -> str:
        """`spec` as `dtrain.teachers.load` takes it; a recipe is trained first, unless its run is there.

        Raises:
            ConfigError: see `recipe_of`, or its folder holds a run with other settings.
        """
        recipe = self.recipe_of(spec)
        if recipe is None:
            return spec
        folder = self.folder / recipe.name
        newest = checkpoint.newest(folder, recipe.name)
        if newest is not None:
            check_same(recipe, folder)
        if newest is None or newest != checkpoint.path_at(folder, recipe, recipe.train.steps):
            train(recipe, folder, placement_of(recipe), newest is not None, named(report, recipe.name))
        return str(folder)

    def random(self, spec: str) -> str:
        """The same network with random weights, as `dtrain.teachers.load` takes it. spec: what `trained` gave."""
        name = spec.partition("=")[0]
        if name in TEACHERS:
            folder = self.folder / f"random-{name}"
            return f"{name}={folder if folder.is_dir() else random_published(name, self.like.data.image_size, folder)}"
        saved = checkpoint.read(checkpoint.located(Path(spec)))
        folder = self.folder / f"random-{saved.recipe.name}"
        if checkpoint.newest(folder, saved.recipe.name) is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(RANDOM_SEED)
                state = models.build(saved.recipe.model).state_dict()
            recipe = replace(saved.recipe, train=replace(saved.recipe.train, steps=1))
            checkpoint.save(Checkpoint(recipe, 1, state, state, {}), folder, keep=1)
        return str(folder)
