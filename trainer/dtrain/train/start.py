"""Starts a training run, afresh or from the newest checkpoint, and checks it before any time is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from drun.console import Report, warn
from drun.diffusion import process as processes
from drun.errors import CheckpointError, ConfigError, DataError
from drun.foreign import read_json
from dtrain import models, objectives
from dtrain.averages import followed_old_law
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.fit import check_state
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Optimizer, Recipe
from dtrain.data.opening import described, open_dataset, warn_of_change
from dtrain.models import Network
from dtrain.objectives import Objective
from dtrain.train.ema import Average
from dtrain.train.run import Run, trained_beside
from dtrain.train.workers import Workers


def check_folder(recipe: Recipe, out: Path, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    newest = checkpoint.newest(out, recipe.name)
    if resume and newest is None:
        raise ConfigError(f"nothing to resume: '{out}' has no checkpoint of '{recipe.name}'; leave out --resume")
    if not resume and newest is not None:
        raise ConfigError(f"'{out}' already holds a run of '{recipe.name}': add --resume, or choose another --out")
    if (other := _recorded_name(out)) not in (None, recipe.name) and checkpoint.newest(out, str(other)) is not None:
        raise ConfigError(f"'{out}' already holds a run of '{other}': choose another --out")


def _recorded_name(out: Path) -> str | None:
    """The name of the recipe in `recipe.json`, if it has one."""
    try:
        return str(read_json(out / "recipe.json").get("name"))
    except DataError:
        return None


def read_saved(recipe: Recipe, out: Path) -> tuple[Checkpoint, Path]:
    """The newest checkpoint, if it is of this recipe.

    Raises:
        CheckpointError: it is damaged. ConfigError: it was trained with other settings.
    """
    *older, path = checkpoint.all_of(out, recipe.name)
    try:
        saved = checkpoint.read(path)
        if path != checkpoint.path_at(out, recipe, saved.step):
            raise CheckpointError(f"'{path}' is of step {saved.step}, its name says another: it is damaged")
    except CheckpointError as error:
        advice = f"; to go on from '{older[-1]}', delete the damaged one" if older else ""
        raise CheckpointError(f"{error}{advice}") from error
    _check_same(recipe.to_dict(), saved.recipe.to_dict(), out)
    return saved, path


def _check_same(recipe: dict[str, Any], saved: dict[str, Any], out: Path) -> None:
    """Check that a resumed run learns the same from the same data. It may be longer, and log and save otherwise."""
    for section in ("model", "process", "objective", "ema"):
        if recipe[section] != saved.get(section):
            raise ConfigError(f"'{out}' was trained with {section} = {saved.get(section)}, got {recipe[section]}")
    for section, key in (
        ("train", "batch_size"),
        ("train", "seed"),
        ("data", "image_size"),
        ("data", "augment"),
        ("data", "label_dropout"),
    ):
        before, now = saved[section].get(key), recipe[section][key]
        if now != before:
            raise ConfigError(f"'{out}' was trained with {key} = {before}, got {now}")


def start(recipe: Recipe, out: Path, workers: Workers, resume: bool, report: Report) -> Run:
    """A fresh run, or a run from the newest checkpoint, checked before any time is spent."""
    train = recipe.train
    workers.parts(train.batch_size, train.accumulate)
    saved, path = read_saved(recipe, out) if resume else (None, None)
    objective = objectives.build(objective_options(recipe), processes.from_dict(recipe.process), workers.device)
    torch.manual_seed(train.seed)
    network = models.build(recipe.model).to(workers.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    check_model(network, objective, recipe)
    wrapped = objective.wrap(network).to(workers.device)
    dataset = workers.first_then_others(lambda: open_dataset(recipe, out, report))
    recipe = replace(recipe, data=described(recipe.data, dataset))
    workers.first_then_others(lambda: objective.attend(dataset, report))

    if saved is not None and path is not None:
        if workers.is_first and followed_old_law(recipe.ema, saved.version):
            _warn_of_old_law(path, recipe.ema.every)
        if workers.is_first:
            warn_of_change(saved.recipe.data, recipe.data)
        _load(saved, path, network, trained_beside(wrapped, network))
    if workers.compile:
        wrapped.compile()
    module, optimizer = workers.prepare(wrapped, _optimizer(wrapped, recipe.optimizer, workers))
    run = Run(recipe, workers, objective, dataset, network, module, optimizer, Average(network, recipe.ema))
    if saved is not None:
        run.ema.load(saved.ema)
        workers.load_optimizer(module, optimizer, saved.optimizer, saved.scaler, f"'{path}'")
        run.step = saved.step
    return run


def _load(saved: Checkpoint, path: Path, network: nn.Module, extra: nn.ModuleDict) -> None:
    for part, module in ((saved.model, network), (saved.ema, network), (saved.objective, extra)):
        check_state(part, module.state_dict(), f"'{path}'")
    network.load_state_dict(saved.model)
    extra.load_state_dict(saved.objective)


def _optimizer(wrapped: nn.Module, settings: Optimizer, workers: Workers) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in wrapped.parameters() if parameter.requires_grad],
        settings.learning_rate,
        settings.betas,
        weight_decay=settings.weight_decay,
        fused=workers.device.type in ("cpu", "cuda") and not workers.scales_loss,
    )


def _warn_of_old_law(path: Path, every: int) -> None:
    warn(
        f"the average in '{path}' followed an older warm-up law, which acted at steps {every}, {2 * every}, ...; this "
        f"run goes on with that of ema-pytorch, at 1, {1 + every}, {1 + 2 * every}, ...: start a new run if the "
        "average must be the article's from its first step"
    )


def objective_options(recipe: Recipe) -> dict[str, Any]:
    """The objective's options, with the size of the pictures for objectives with teachers."""
    return recipe.objective | ({"image_size": recipe.data.image_size} if "teachers" in recipe.objective else {})


def check_model(network: Network, objective: Objective, recipe: Recipe) -> None:
    wanted = "class" if objective.prediction is None else "image"
    if network.predicts != wanted:
        name = recipe.objective.get("name")
        raise ConfigError(f"model {recipe.model['name']} predicts a {network.predicts}, objective '{name}' a {wanted}")
    num_timesteps = recipe.process.get("num_timesteps")
    if isinstance(num_timesteps, int) and recipe.train.preview_steps > num_timesteps:
        raise ConfigError(f"train.preview_steps got {recipe.train.preview_steps}, the process has {num_timesteps}")
    if recipe.data.label_dropout and (network.classes is None or network.classes.null_label is None):
        raise ConfigError("data.label_dropout needs a model with classes and a null label: set it to 0")
