"""Trains the runs behind the curves, once: a stopped run continues, and a finished run is not trained again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drun.console import Report
from drun.diffusion import process as processes
from drun.errors import ConfigError
from drun.files import write_json
from drun.foreign import read_json
from dtrain import device, models, objectives
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import KNOWN_FROM_DATA, Recipe
from dtrain.data.opening import found
from dtrain.device import Placement
from dtrain.train.loop import train
from dtrain.train.rehearsal import rehearse
from dtrain.train.start import check_model, objective_options
from dtrain.train.workers import Workers

#: Settings that name folders, whose content counts: see `Learned`.
FOLDERS = {"data.source", "objective.teachers", "objective.cache"}
#: The file of it, beside a run's checkpoints.
LEARNED = "learned.json"
#: The settings of a run that do not change its checkpoints.
BOOKKEEPING = ("log_every", "save_every", "preview_every", "num_previews", "preview_steps", "keep_checkpoints")


def placement_of(recipe: Recipe) -> Placement:
    """The device on which a recipe is trained and evaluated: the GPU if there is one."""
    return device.choose("auto", recipe.train.precision, recipe.train.compile)


def check_fits(recipe: Recipe, folder: Path) -> None:
    """Rehearse the first step of a run, so that what is wrong shows now, and not after earlier runs.

    Raises:
        ConfigError: a wrong option, or model, objective, teachers and images that do not fit each other.
        DataError: no images.
    """
    placement = placement_of(recipe)
    Workers(placement).parts(recipe.train.batch_size, recipe.train.accumulate)
    process = processes.from_dict(recipe.process)
    objective = objectives.build(objective_options(recipe), process, placement.device)
    check_model(models.outline(recipe.model), objective, recipe)
    rehearse(recipe, objective, found(recipe, folder).shape, placement.device)


@dataclass(frozen=True)
class Learned:
    """What a run learns from, by content: folders may be named in several ways, and their files may be others later.

    images, teachers: their fingerprints.
    """

    images: str
    teachers: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"images": self.images, "teachers": [*self.teachers]}


def train_run(
    recipe: Recipe, folder: Path, steps: list[int], name: str, learned: Learned, report: Report
) -> dict[int, Path]:
    """Train, or go on training, until there is a checkpoint at each of `steps`.

    A run in `folder` that is longer than asked for is used as far as it is needed: its beginning is the shorter run,
    for nothing but `optimizer.decay_share` looks ahead.

    Returns:
        Step -> checkpoint.

    Raises:
        ConfigError: the folder holds a run with other settings, or without a checkpoint at one of the steps.
    """
    check_run(recipe, folder, steps, learned)
    newest = checkpoint.newest(folder, recipe.name)
    if newest is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / LEARNED, learned.to_dict())
    if newest is None or _step_of(newest) < steps[-1]:
        train(recipe, folder, placement_of(recipe), newest is not None, named(report, name))
    return {step: checkpoint.path_at(folder, recipe, step) for step in steps}


def check_run(recipe: Recipe, folder: Path, steps: list[int], learned: Learned | None = None) -> None:
    """Raises ConfigError if `folder` holds a run that is not the beginning of this one, or lacks a checkpoint of it.

    learned: None while it is not known.
    """
    newest = checkpoint.newest(folder, recipe.name)
    if newest is None:
        return
    check_same(recipe, folder)
    missing = [
        step for step in steps if step <= _step_of(newest) and not checkpoint.path_at(folder, recipe, step).is_file()
    ]
    if missing:
        raise ConfigError(f"'{folder}' has no checkpoint of step {missing[0]}: choose its --every, or other --runs")
    before = read_json(folder / LEARNED) if (folder / LEARNED).is_file() else {}
    for what, value in learned.to_dict().items() if learned else ():
        if before.get(what) != value:
            raise ConfigError(f"'{folder}' was trained with other {what} of this name: choose another folder as --runs")


def _step_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


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
    ignored |= {f"data.{key}" for key in KNOWN_FROM_DATA} | FOLDERS
    return {key: value for key, value in flat.items() if key not in ignored}


def named(report: Report, name: str) -> Report:
    """A report that says whose work it is about."""

    def reporting(what: str, done: int, total: int, note: str = "") -> None:
        report(f"{what}: {name}", done, total, note)

    return reporting
