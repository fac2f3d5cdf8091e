"""The training loop, top to bottom, on one device or many.

Every random number of step s comes from generators seeded by (seed, s), and the data order is a function of
(seed, s): so 20 steps equal 10 steps, a checkpoint and 10 more, bit for bit on a CPU, and many processes train on
what one process trains on.
"""

from __future__ import annotations

import signal
import time
from contextlib import nullcontext
from pathlib import Path

from drun.console import Report, say, silent, warn
from drun.errors import memory_for
from drun.files import locked, write_json
from dtrain import teachers
from dtrain.averages import early_note, late_note
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe
from dtrain.device import Placement
from dtrain.train.log import Log
from dtrain.train.records import measured, save_checkpoint, save_preview
from dtrain.train.run import Run
from dtrain.train.start import check_folder, start
from dtrain.train.step import read_ahead, update
from dtrain.train.stop import Stop, Stopped
from dtrain.train.workers import Workers


def train(recipe: Recipe, out: Path, placement: Placement, resume: bool, report: Report) -> Path:
    """Train, and write `recipe.json`, checkpoints, `log.jsonl`, TensorBoard events and previews to `out`.

    Under `accelerate launch` every process calls this; the first one writes and reports.

    Returns:
        The last checkpoint.

    Raises:
        ConfigError: `out` holds another run, or nothing to resume, or settings that do not fit. DataError: broken
        images. UserError: the loss is not finite, the last checkpoint is from before that; or another run has the
        folder. Stopped: by Ctrl-C or SIGTERM, after a checkpoint was saved. OutOfMemory.
    """
    workers = Workers(placement)
    report = report if workers.is_first else silent
    advice = "lower train.batch_size, raise train.accumulate, or train in bf16"
    with locked(out) if workers.is_first else nullcontext(), memory_for("training", advice):
        check_folder(recipe, out, resume)
        run = start(recipe, out, workers, resume, report)
        if workers.is_first:
            write_json(out / "recipe.json", run.recipe.to_dict())
        workers.wait()
        return _train(run, out, report)


def _train(run: Run, out: Path, report: Report) -> Path:
    workers, train = run.workers, run.recipe.train
    last = checkpoint.path_at(out, run.recipe, run.step)
    _warn(run, early_note(run.recipe, run.step))
    for spec in run.recipe.objective.get("teachers", ()):
        _warn(run, teachers.unfinished_note(spec))
    if workers.is_first and run.step:
        say(_resumed(run.step, train.steps))
    with Log(out, run.step) if workers.is_first else workers.no_log() as log, Stop() as stop:
        start_s = time.monotonic()
        for parts in read_ahead(run):
            advanced = update(run, parts)
            if _is_asked_to_stop(run, stop, advanced):
                last = save_checkpoint(run, out)
                _warn(run, late_note(run.recipe, run.step, last))
                raise Stopped(stop.number or signal.SIGTERM, run.step, last)
            if not advanced:
                continue
            save, preview = (_due(run.step, every, train.steps) for every in (train.save_every, train.preview_every))
            if not (save or preview or _due(run.step, train.log_every, train.steps)):
                continue
            scalars = measured(run, time.monotonic() - start_s)
            note = f"loss {scalars['loss']:.4f}, {scalars['images_per_s']:.0f} images/s"
            report("training steps", run.step, train.steps, note)
            log.write(run.step, **scalars)
            if save:
                last = save_checkpoint(run, out)
            if preview:
                save_preview(run, out, log)
            start_s = time.monotonic()
    workers.wait()
    _warn(run, late_note(run.recipe, run.step, last))
    return last


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _is_asked_to_stop(run: Run, stop: Stop, advanced: bool) -> bool:
    """Whether any process was asked to stop.

    Several processes ask each other only where they wait for each other anyhow.
    """
    if run.workers.count == 1:
        return stop.asked
    looks = advanced and _due(run.step, run.recipe.train.log_every, run.recipe.train.steps)
    return looks and run.workers.agree(stop.asked)


def _resumed(step: int, num_steps: int) -> str:
    if step < num_steps:
        return f"going on from step {step:,} of {num_steps:,}"
    return f"step {num_steps:,} is reached, nothing is left to do: --set train.steps={2 * num_steps} goes further"


def _warn(run: Run, note: str | None) -> None:
    if note and run.workers.is_first:
        warn(note)
