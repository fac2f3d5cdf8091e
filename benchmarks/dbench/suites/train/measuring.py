"""Times the training step of a recipe, counts its operations and measures its memory."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import torch

from dbench.core import fresh, machine
from dbench.core.matmuls import Matmuls
from dbench.core.record import Result, ResultRow, this_command
from dbench.suites.train.candidates import choose, prepare, resolve, subject_of
from dbench.suites.train.memory import GpuScale
from dbench.suites.train.rows import MB, WarmCandidate, runs_on, timed_rows
from dbench.suites.train.settings import SUITE, TrainSettings
from dbench.suites.train.trial import Trial, check_divides
from dbench.suites.train.work import count_flops
from drun.console import Report
from drun.errors import UserError
from drun.files import write_json
from dtrain import device as devices
from dtrain.config import Recipe
from dtrain.device import Placement


def measure(settings: TrainSettings, report: Report) -> Result:
    """Time the steps of a recipe on synthetic data, its teachers live, cached and absent in turns, and weigh each.

    Raises:
        ConfigError: an unknown recipe, setting or teacher option, a batch that does not divide, or a device that is
            not there. UserError: the device's memory does not suffice.
    """
    recipe = resolve(settings)
    chosen = choose(recipe, settings.teacher)
    placement = devices.choose(settings.device, recipe.train.precision, recipe.train.compile)
    check_divides(recipe, placement)
    start = machine.usage()
    with tempfile.TemporaryDirectory(prefix="dbench-train-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        recipes = prepare(recipe, chosen, folder, report)
        rows = _in_this_process(recipes, folder, placement, settings, report)
        if placement.device.type == "cpu":
            rows += _in_fresh_processes(recipes, folder, placement, report)
    shown = {key: value for key, value in asdict(settings).items() if key != "recipe"}
    resolved = shown | {
        "batch": recipe.train.batch_size,
        "teacher": chosen,
        "runs_on": runs_on(placement),
        "device": placement.device.type,
        "precision": placement.precision,
        "compile": placement.compile,
    }
    here = machine.fingerprint(torch.get_num_threads(), since=start)
    return Result(tuple(rows), subject_of(recipe, chosen), resolved, here, this_command())


# ---- in turns -------------------------------------------------------------------------------------------


def _in_this_process(
    recipes: dict[str, Recipe], folder: Path, placement: Placement, settings: TrainSettings, report: Report
) -> list[ResultRow]:
    with ExitStack() as stack:
        try:
            opened = {}
            for name, recipe in recipes.items():
                opened[name] = open_candidate(recipe, folder / "out" / name, placement, settings.warmup, report)
                stack.enter_context(closing(opened[name].trial))
            return timed_rows(opened, Matmuls(placement.device, placement.precision), placement, settings, report)
        except torch.OutOfMemoryError as error:
            size = next(iter(recipes.values())).train.batch_size
            raise UserError(
                f"the memory of {placement.device.type} does not suffice for {', '.join(recipes)} at --batch {size}: "
                "measure fewer --teacher at once, or a smaller --batch"
            ) from error


def open_candidate(recipe: Recipe, folder: Path, placement: Placement, warmup: int, report: Report) -> WarmCandidate:
    """Start a run and warm it up; on a GPU the steps after the first one are weighed."""
    scale = GpuScale(placement.device)
    trial = Trial(recipe, folder, placement, report)
    start_s = time.perf_counter()
    trial.whole_step()
    first_step_s = time.perf_counter() - start_s
    scale.begin()
    for done in range(1, warmup):
        report("warming up", done, warmup)
        trial.whole_step()
    peak = scale.peak()
    return WarmCandidate(trial, count_flops(trial.run), first_step_s, peak)


# ---- fresh processes ------------------------------------------------------------------------------------


def _in_fresh_processes(
    recipes: dict[str, Recipe], folder: Path, placement: Placement, report: Report
) -> list[ResultRow]:
    """The largest resident memory of a process that trains a few steps: Python and PyTorch are in it."""
    rows = []
    for done, (name, recipe) in enumerate(recipes.items()):
        report("weighing processes", done, len(recipes))
        peak = weigh(recipe, folder / "out" / name, placement)
        details = {"bytes": peak, "of": "a fresh process, resident: Python, PyTorch, data and training together"}
        value = None if peak is None else peak / MB
        rows.append(ResultRow(SUITE, f"{name}, peak memory of a fresh process", value, "MB", details=details))
    return rows


def weigh(recipe: Recipe, folder: Path, placement: Placement) -> int | None:
    """Peak resident bytes of `python -m dbench.suites.train.trial`; None where the system does not say."""
    path = folder / "weighed.json"
    write_json(path, recipe.to_dict())
    words = (path, folder, placement.precision, "on" if placement.compile else "off")
    return fresh.peak_bytes(["-m", "dbench.suites.train.trial", *map(str, words)])
