"""Trains the runs behind the curves, once: a stopped run continues, and a finished run is not trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drun.console import Report
from drun.diffusion import process as processes
from drun.errors import ConfigError
from drun.foreign import read_json
from dtrain import device, models, objectives
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import KNOWN_FROM_DATA, Recipe
from dtrain.device import Placement
from dtrain.train.loop import train

#: The settings of a run that do not change its checkpoints.
BOOKKEEPING = ("log_every", "save_every", "preview_every", "num_previews", "preview_steps", "keep_checkpoints")


def placement_of(recipe: Recipe) -> Placement:
    """The device on which a recipe is trained and evaluated: the GPU if there is one."""
    return device.choose("auto", recipe.train.precision, recipe.train.compile)


def check_fits(recipe: Recipe) -> None:
    """Build the objects of a recipe and discard them, so that a wrong option shows now, and not after earlier runs.

    Raises:
        ConfigError: a wrong option of the model or the objective, or parts that do not fit each other.
    """
    network = models.build(recipe.model)
    size = {"image_size": recipe.data.image_size} if "teachers" in recipe.objective else {}
    process = processes.from_dict(recipe.process)
    objectives.build(recipe.objective | size, process, placement_of(recipe).device).wrap(network)


def train_run(recipe: Recipe, folder: Path, steps: list[int], name: str, report: Report) -> dict[int, Path]:
    """Train, or go on training, until there is a checkpoint at each of `steps`.

    A run in `folder` that is longer than asked for is used as far as it is needed: its beginning is the shorter run,
    for nothing but `optimizer.decay_share` looks ahead.

    Returns:
        Step -> checkpoint.

    Raises:
        ConfigError: the folder holds a run with other settings, or without a checkpoint at one of the steps.
    """
    paths = {step: checkpoint.path_at(folder, recipe, step) for step in steps}
    newest = checkpoint.newest(folder, recipe.name)
    held = 0 if newest is None else int(newest.stem.rpartition("-")[2])
    if newest is not None:
        check_same(recipe, folder)
        missing = [step for step, path in paths.items() if step <= held and not path.is_file()]
        if missing:
            raise ConfigError(f"'{folder}' has no checkpoint of step {missing[0]}: choose its --every, or other --runs")
    if held < steps[-1]:
        train(recipe, folder, placement_of(recipe), newest is not None, named(report, name))
    return paths


def check_same(recipe: Recipe, folder: Path) -> None:
    """Raises ConfigError if the run in `folder` is of a recipe that learns otherwise."""
    wanted, saved = _learned(recipe.to_dict()), _learned(read_json(folder / "recipe.json"))
    for key in sorted(wanted.keys() | saved.keys()):
        if wanted.get(key) != saved.get(key):
            got = f"'{folder}' was trained with {key} = {saved.get(key)!r}, now it is {wanted.get(key)!r}"
            raise ConfigError(f"{got}: choose another folder as --runs")


def _learned(recipe: dict[str, Any]) -> dict[str, Any]:
    """`section.key` -> value, for every setting that a checkpoint depends on."""
    flat = {
        f"{section}.{key}": value
        for section, values in recipe.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    ahead = flat.get("optimizer.decay_share")
    ignored = {f"train.{key}" for key in (*BOOKKEEPING, *(() if ahead else ("steps",)))}
    ignored |= {f"data.{key}" for key in KNOWN_FROM_DATA}
    return {key: value for key, value in flat.items() if key not in ignored}


def named(report: Report, name: str) -> Report:
    """A report that says whose work it is about."""

    def reporting(what: str, done: int, total: int, note: str = "") -> None:
        report(f"{what}: {name}", done, total, note)

    return reporting
