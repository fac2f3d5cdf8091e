"""Teachers and networks of features: those that are there, those that a recipe trains first, and random ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dbench.core.stand_ins import random_published
from dbench.suites.repa.training import check_same, named, placement_of
from drun.console import Report
from drun.errors import ConfigError
from drun.files import atomic_folder
from dtrain import config, models, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe
from dtrain.teachers import TEACHERS
from dtrain.train.loop import train


@dataclass(frozen=True)
class Encoders:
    """Where encoders of a comparison's images come from, and where those lie that it makes.

    Args:
        like: the recipe whose images they see. folder: of the comparison.
    """

    like: Recipe
    folder: Path

    def recipe_of(self, spec: str) -> Recipe | None:
        """The recipe that has to be trained for `spec`: one by name or file, or a folder to be that is called so.

        A folder of this comparison is its own work, which may have been interrupted.

        Raises:
            ConfigError: a recipe of something else than an encoder, or of another size of images.
        """
        name, path = Path(spec).name, Path(spec)
        is_file = path.suffix == ".toml" and path.is_file()
        is_another = path.exists() and path.resolve() != (self.folder / name).resolve()
        if spec.partition("=")[0] in TEACHERS or not (is_file or (name in config.names() and not is_another)):
            return None
        recipe = config.load(spec if is_file else name, ["train.num_previews=1"])
        if not issubclass(models.available()[str(recipe.model["name"])], models.Encoder):
            raise ConfigError(f"recipe '{name}' trains no encoder, but a {recipe.model['name']}: choose another one")
        if recipe.data.image_size != self.like.data.image_size:
            got = f"recipe '{name}' takes images of {recipe.data.image_size} pixels"
            raise ConfigError(f"{got}, '{self.like.name}' has {self.like.data.image_size}: choose another one")
        return replace(recipe, data=replace(recipe.data, source=self.like.data.source))

    def place_of(self, spec: str) -> Path:
        """Where its weights lie, or will lie."""
        recipe = self.recipe_of(spec)
        return (Path(spec) if recipe is None else self.folder / recipe.name).resolve()

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
        if newest != checkpoint.path_at(folder, recipe, recipe.train.steps):
            train(recipe, folder, placement_of(recipe), newest is not None, named(report, recipe.name))
        return str(folder)

    def random(self, spec: str, folder: Path | None = None) -> str:
        """The same network with random weights, as `dtrain.teachers.load` takes it.

        It is what the trained one was before its first step, so that training alone differs; of published ones, a
        network of their class and size.

        Args:
            spec: as for `trained`, which need not have been called. folder: where it is kept; None: the comparison's.
        """
        above, name = folder or self.folder, spec.partition("=")[0]
        if name in TEACHERS:
            return f"{name}={_made(above / f'random-{name}', partial(self._save_published, name))}"
        recipe = self.recipe_of(spec) or checkpoint.read(checkpoint.located(Path(spec))).recipe
        described = json.dumps([recipe.model, recipe.train.seed], sort_keys=True)
        own = f"random-{recipe.name}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
        return str(_made(above / own, partial(_save_untrained, recipe)))

    def _save_published(self, name: str, folder: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random_published(name, self.like.data.image_size, folder)


def _made(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that is whole as soon as it is there."""
    if not folder.is_dir():
        with atomic_folder(folder) as part:
            make(part)
    return folder


def _save_untrained(recipe: Recipe, folder: Path) -> None:
    """The network of a recipe before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        state = models.build(recipe.model).state_dict()
    of_one_step = replace(recipe, train=replace(recipe.train, steps=1))
    checkpoint.save(Checkpoint(of_one_step, 1, state, state, {}), folder, keep=1)
