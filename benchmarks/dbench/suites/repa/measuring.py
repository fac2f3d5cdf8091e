"""Trains both arms for every seed and evaluates their checkpoints, unless this was done before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dbench.core import machine, timing
from dbench.core.record import Result, this_command
from dbench.quality.features import Features
from dbench.quality.scale import between_halves
from dbench.suites.repa import drawing, layers, plan, training
from dbench.suites.repa.crossing import Curve
from dbench.suites.repa.layers import Digits
from dbench.suites.repa.plan import LABELS, PLAIN, REPA
from dbench.suites.repa.rows import Measurements, to_rows
from dbench.suites.repa.settings import RepaSettings
from drun.console import Report
from drun.files import sha256
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe
from dtrain.data.digits import digits_8x8

#: The number of random halvings of the real digits.
SPLITS = 20


@dataclass(frozen=True)
class TrainedArm:
    """One arm of one seed, trained and evaluated."""

    arm: str
    curve: Curve
    last: Path  # its final checkpoint


def measure(settings: RepaSettings, report: Report) -> Result:
    """Train both arms for every seed, unless they are there, and compare their checkpoints.

    Runs and records of what was measured stay in `settings.runs`: an interrupted or repeated call continues from there.

    Raises:
        ConfigError: settings that make no comparison, or that differ from those of the runs that are there.
        NotFiniteError: a network diverged.
    """
    plan.check(settings)
    recipes = {seed: plan.recipes(settings, seed) for seed in settings.seeds}
    first = recipes[settings.seeds[0]]
    teacher, device = plan.teacher_of(first[REPA]), training.placement_of(first[PLAIN]).device
    training.check_fits(first[PLAIN])
    if Path(teacher) == plan.teacher_folder(settings):
        training.train_teacher(Path(teacher), report)
    training.check_fits(first[REPA])
    real = digits_8x8().reshape(-1, 64)
    runs = [run for seed in settings.seeds for run in _runs(settings, seed, recipes[seed], real, device, report)]
    digits = layers.open_digits(first[PLAIN], teacher, device)
    found = Measurements(
        settings.seeds,
        {arm: [run.curve for run in runs if run.arm == arm] for arm in LABELS},
        _blocks(runs, digits, device, report),
        layers.references(digits),
        timing.spread(between_halves(real, SPLITS)),
    )
    subject = _subject(first, digits, [run.last for run in runs])
    return Result(tuple(to_rows(found)), subject, _resolved(settings, device), machine.fingerprint(), this_command())


def _runs(
    settings: RepaSettings, seed: int, recipes: dict[str, Recipe], real: Features, device: torch.device, report: Report
) -> Iterator[TrainedArm]:
    """Train both arms of a seed, and draw from every checkpoint."""
    for arm, recipe in recipes.items():
        name = f"{LABELS[arm]}, seed {seed}"
        paths = training.train_run(recipe, settings.runs / f"{arm}-seed{seed}", settings.checkpoints, name, report)
        distances = []
        for step, path in paths.items():
            report(f"drawing: {name}", step - settings.every, settings.steps)
            distances.append(drawing.distance(path, real, settings.samples, settings.sampling_steps, device))
        report(f"drawing: {name}", settings.steps, settings.steps, f"distance {distances[-1]:.3g}")
        yield TrainedArm(arm, Curve(tuple(paths), tuple(distances)), paths[settings.steps])


def _blocks(
    runs: list[TrainedArm], digits: Digits, device: torch.device, report: Report
) -> dict[str, list[dict[str, list[list[float]]]]]:
    """The measurements of the blocks by arm, for the final checkpoints of all seeds."""
    found: dict[str, list[dict[str, list[list[float]]]]] = {arm: [] for arm in LABELS}
    for done, run in enumerate(runs):
        report("reading blocks", done, len(runs))
        found[run.arm].append(layers.blocks(run.last, digits, device))
    report("reading blocks", len(runs), len(runs))
    return found


def _subject(recipes: dict[str, Recipe], digits: Digits, last: list[Path]) -> dict[str, Any]:
    """The subject of the comparison, without folders.

    Args:
        last: the final checkpoints of all runs.
    """
    plain, objective = recipes[PLAIN].to_dict(), recipes[REPA].to_dict()["objective"]
    weights = checkpoint.read(last[0]).ema.values()
    shown = {key: value for key, value in objective.items() if key not in ("teachers", "cache", "base")}
    return {
        "name": plain["name"],
        "checkpoint_sha256": list(map(sha256, last)),
        "model": plain["model"],
        "parameters": sum(weight.numel() for weight in weights),
        "batch_size": plain["train"]["batch_size"],
        "optimizer": plain["optimizer"],
        "ema": plain["ema"],
        "alignment": shown,
        "aligned_block": objective["encoder_depth"],
        "teacher": {"name": digits.teacher_name, "fingerprint": digits.teacher_fingerprint},
        "num_real": len(digits.images),
    }


def _resolved(settings: RepaSettings, device: torch.device) -> dict[str, Any]:
    shown = asdict(settings) | {
        "seeds": list(settings.seeds),
        "assignments": list(settings.assignments) or None,
        "repa_assignments": list(settings.repa_assignments) or None,
        "sampler": drawing.SAMPLER,
        "device": device.type,
    }
    return {key: value for key, value in shown.items() if key != "runs"}
