"""Writes the records of a training run: figures, checkpoints, previews."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import torch

from drun.errors import UserError
from drun.run import images
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.train.log import Log
from dtrain.train.preview import draw_preview
from dtrain.train.run import Run, trained_beside


def measured(run: Run, elapsed_s: float) -> dict[str, float]:
    """The figures of the steps since the last call, with one synchronisation with the device for all of them.

    Not every step has every loss: an alignment ends.
    """
    num_steps = len(run.pending)
    names = list(dict.fromkeys(name for losses in run.pending for name in losses))
    columns = [[losses[name].float() for losses in run.pending if name in losses] for name in names]
    values = iter(run.workers.mean(torch.stack([value for column in columns for value in column])).tolist())
    logged = {name: list(islice(values, len(column))) for name, column in zip(names, columns, strict=True)}
    _check_finite(logged["loss"], run.step - num_steps + 1)
    run.pending.clear()
    return {name: math.fsum(column) / len(column) for name, column in logged.items()} | {
        "gradient_norm": float(run.gradient_norm),
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "images_per_s": num_steps * run.recipe.train.batch_size / elapsed_s,
    }


def _check_finite(losses: list[float], first: int) -> None:
    for offset, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {first + offset}: training stopped, the last checkpoint is from before; "
                "lower optimizer.learning_rate, set optimizer.grad_clip=1, or train in fp32"
            )


def save_checkpoint(run: Run, out: Path) -> Path:
    """Every process takes part, for a sharded state is gathered; the first one writes."""
    workers, recipe = run.workers, run.recipe
    saved = Checkpoint(
        recipe,
        run.step,
        workers.whole_state(run.network),
        run.ema.state_dict(),
        workers.optimizer_state(run.module, run.optimizer),
        workers.whole_state(trained_beside(workers.bare(run.module), run.network)),
        workers.scaler_state(),
    )
    if workers.is_first:
        checkpoint.save(saved, out, recipe.train.keep_checkpoints)
    workers.wait()
    return checkpoint.path_at(out, recipe, run.step)


def save_preview(run: Run, out: Path, log: Log) -> None:
    """Every process takes part, for sharded weights are gathered; the first one draws."""
    online, average = run.workers.whole_state(run.network), run.ema.state_dict()
    if run.objective.prediction is None or not run.workers.is_first:
        return
    picture = draw_preview(
        run.recipe, run.step, online, average, run.objective.prediction, run.dataset.shape, run.workers.device
    )
    if run.workers.device.type == "mps":
        torch.mps.empty_cache()  # a Mac's GPU shares its memory with all programs, and the next preview is far
    images.write_png(out / "previews" / f"step-{run.step:07d}.png", picture)
    log.picture(run.step, picture)
