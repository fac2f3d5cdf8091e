"""Rehearses a run in seconds: its cost, and all checks before its first step, without its images and arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drun.diffusion import process as processes
from drun.errors import ConfigError, UserError, door
from drun.files import locked
from dtrain import models, objectives
from dtrain.config import Recipe
from dtrain.data.image_files import MAX_PIXELS, pixel_limit
from dtrain.data.opening import found
from dtrain.device import Placement
from dtrain.draws import Draws
from dtrain.objectives import Batch, Objective
from dtrain.train.start import check_folder, check_model, objective_options, read_saved
from dtrain.train.workers import Workers

#: Bytes of a checkpoint for each parameter: the weight, its average, and two moments of AdamW, in float32.
BYTES_A_PARAMETER = 4 * 4
#: How many evenly spread images are decoded; photos take about a second.
MAX_DECODED = 100
#: The number of blank images of the rehearsed step; some losses compare neighbours.
BATCH = 2


def summary(recipe: Recipe, out: Path) -> Iterator[str]:
    """A description of a run and its cost, in a few lines.

    Raises:
        ConfigError: the model cannot be built.
    """
    train, num_parameters = recipe.train, sum(p.numel() for p in models.outline(recipe.model).parameters())
    process = recipe.process["kind"]
    yield (
        f"{recipe.name}: {recipe.model['name']}, {num_parameters:,} parameters, objective {recipe.objective['name']}, "
        f"{process} process, {recipe.data.image_size}x{recipe.data.image_size} pixels"
    )
    yield f"{train.steps:,} steps of {train.batch_size} images: {train.steps * train.batch_size:,} images are seen"
    saves, previews = (_when(every, train.steps) for every in (train.save_every, train.preview_every))
    yield (
        f"writes {out}/: a checkpoint of about {BYTES_A_PARAMETER * num_parameters / 1e6:,.0f} MB {saves} (the last "
        f"{train.keep_checkpoints} stay), a preview {previews}, log.jsonl, TensorBoard events, and all settings in "
        "recipe.json"
    )


def _when(every: int, num_steps: int) -> str:
    return f"every {every:,} steps" if every < num_steps else "at the end"


def check(recipe: Recipe, out: Path, placement: Placement, resume: bool) -> tuple[int, int]:
    """Make all checks of `train` before its first step without writing; of many images, decode some.

    The step itself is made of blank images, with a network that computes shapes alone.

    Returns:
        How many images were decoded, and how many the run decodes.

    Raises:
        UserError: the error that `train` would raise.
    """
    workers = Workers(placement)
    workers.parts(recipe.train.batch_size, recipe.train.accumulate)
    _check_writable(out)
    check_folder(recipe, out, resume)
    if resume:
        read_saved(recipe, out)
    objective = objectives.build(objective_options(recipe), processes.from_dict(recipe.process), workers.device)
    check_model(models.outline(recipe.model), objective, recipe)
    images = found(recipe, out)
    rehearse(recipe, objective, images.shape, workers.device)
    chosen = np.unique(np.linspace(0, images.count - 1, min(images.count, MAX_DECODED)).astype(int)).tolist()
    with pixel_limit(MAX_PIXELS):
        for i in chosen:
            images.decode(i)
    return len(chosen), images.count


def _check_writable(out: Path) -> None:
    if out.is_dir():
        with locked(out):
            pass
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"cannot write '{out}': '{parent}' takes no new folders; choose another --out")


# ---- a step of shapes -----------------------------------------------------------------------------------


def rehearse(recipe: Recipe, objective: Objective, shape: tuple[int, int, int], device: torch.device) -> None:
    """Compute one loss of blank states with the objective and its teachers, and with the shapes of the network alone.

    Args:
        shape: (C, H, W) of the states.
        device: of the objective.

    Raises:
        ConfigError: model, objective and data do not fit.
    """
    network, side = models.outline(recipe.model), recipe.data.image_size
    colours = shape[0] if shape[1] == side else 3  # of latents the pictures are RGB
    with door(f"recipe '{recipe.name}' does not fit together", ConfigError, "change its settings", passing=UserError):
        with torch.device("meta"):
            module = _Shapes(objective.wrap(network))
        pictures = torch.zeros(BATCH, side, side, colours, dtype=torch.uint8, device=device)
        batch = Batch(
            x0=torch.zeros(BATCH, *shape, device=device),
            labels=torch.zeros(BATCH, dtype=torch.int64, device=device) if network.classes else None,
            draws=Draws(recipe.train.seed, 0, BATCH, slice(0, BATCH), device),
            step=0,
            pictures=pictures if objective.needs_pictures(0) else None,
        )
        with torch.no_grad():
            objective.loss(module, batch)


class _Shapes(nn.Module):
    """A module that runs on the meta device, and returns zeros on the device of its first input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, *others: Tensor | None) -> Any:
        inputs = (None if tensor is None else tensor.to("meta") for tensor in (x, *others))
        return _zeros(self.module(*inputs), x.device)


def _zeros(output: Any, device: torch.device) -> Any:
    if isinstance(output, Tensor):
        return torch.zeros(output.shape, device=device)
    return type(output)(_zeros(part, device) for part in output)
