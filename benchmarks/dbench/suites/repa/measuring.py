"""Trains all arms for every seed and evaluates their checkpoints, unless this was done before."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dbench.core import machine
from dbench.core.record import Result, this_command
from dbench.suites.repa import costs, drawing, layers, plan, training
from dbench.suites.repa.crossing import Curve
from dbench.suites.repa.encoders import Encoders
from dbench.suites.repa.eyes import Eyes, of_network, of_pixels
from dbench.suites.repa.layers import SeenImages
from dbench.suites.repa.plan import LABELS, PLAIN, RANDOM, REPA
from dbench.suites.repa.real import RealImages, open_real
from dbench.suites.repa.rows import Measurements, to_rows
from dbench.suites.repa.settings import RepaSettings
from dbench.suites.repa.training import Learned
from drun.console import Report, warn
from drun.errors import ConfigError
from drun.files import sha256
from dtrain import teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe

#: Folder of the teachers' features, below that of the runs.
CACHE = "features-cache"


@dataclass(frozen=True)
class TrainedArm:
    """One arm of one seed, trained and evaluated."""

    arm: str
    curves: Mapping[str, Curve]  # by kind of eyes
    last: Path  # its final checkpoint


def measure(settings: RepaSettings, report: Report) -> Result:
    """Train all arms for every seed, unless they are there, and compare their checkpoints.

    Runs and records of what was measured stay in `settings.runs`: an interrupted or repeated call continues from there.

    Raises:
        ConfigError: settings that make no comparison, or that differ from those of the runs that are there.
        NotFiniteError: a network diverged.
    """
    plan.check(settings)
    plain = plan.plain_recipe(settings, settings.seeds[0])
    objectives = dict.fromkeys((REPA, RANDOM), plan.aligned_objective(settings))
    objectives |= {changes: plan.aligned_objective(settings, changes) for changes in settings.tries}
    encoders, device = Encoders(plain, settings.runs), training.placement_of(plain).device
    given = _checked(encoders, settings, objectives[REPA], device)
    with tempfile.TemporaryDirectory(prefix="dbench-repa-", ignore_cleanup_errors=True) as scratch:
        stand_ins = [encoders.random(spec, Path(scratch)) for spec in given]  # teachers may be trained only later
        _check_fits(settings, {arm: each | {"teachers": stand_ins} for arm, each in objectives.items()})

    real = open_real(plain, settings.samples, report)
    specs, untaught = [encoders.trained(spec, report) for spec in given], [encoders.random(spec) for spec in given]
    taught = {arm: each | {"teachers": untaught if arm == RANDOM else specs} for arm, each in objectives.items()}
    arms = {seed: _arms(settings, seed, taught) for seed in settings.seeds}
    eyes = [of_pixels(real, settings.samples)]
    if settings.features:
        spec = encoders.trained(settings.features, report)
        eyes.insert(0, of_network(teachers.load(spec, plain.data.image_size, device), real, settings.samples))
    for note in map(teachers.unfinished_note, [*specs, *([spec] if settings.features else [])]):
        if note:
            warn(note)
    return _compared(settings, arms, specs, eyes, real, device, report)


def _checked(
    encoders: Encoders, settings: RepaSettings, objective: Mapping[str, Any], device: torch.device
) -> list[str]:
    """The teachers, which fit the images and are no judges of their own pupils."""
    specs: list[str] = objective["teachers"]
    for spec in specs:
        encoders.check(spec, device, is_teacher=True)
    if settings.features:
        encoders.check(settings.features, device, is_teacher=False)
        if encoders.place_of(settings.features) in map(encoders.place_of, specs):
            got = f"--features got '{settings.features}', which is a teacher, too"
            raise ConfigError(f"{got}: judge by a network that nobody is aligned to")
    return specs


def _arms(settings: RepaSettings, seed: int, objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, Recipe]:
    return plan.arms(plan.plain_recipe(settings, seed), objectives, str(settings.runs / CACHE))


def _check_fits(settings: RepaSettings, objectives: Mapping[str, Mapping[str, Any]]) -> None:
    """All arms of all seeds, before the first step of any. objectives: with teachers that are there."""
    for seed in settings.seeds:
        for arm, recipe in _arms(settings, seed, objectives).items():
            folder = plan.folder_of(settings, arm, seed)
            if seed == settings.seeds[0]:
                training.check_fits(recipe, folder)
            training.check_run(recipe, folder, settings.checkpoints)


def _compared(
    settings: RepaSettings,
    arms: Mapping[int, Mapping[str, Recipe]],
    specs: Sequence[str],
    eyes: Sequence[Eyes],
    real: RealImages,
    device: torch.device,
    report: Report,
) -> Result:
    """The result. arms: seed -> arm -> recipe. specs: of the teachers, which are there."""
    first = arms[settings.seeds[0]]
    size = first[PLAIN].data.image_size
    named = {arm: tuple(recipe.objective.get("teachers", ())) for arm, recipe in first.items()}
    known = {spec: teachers.load(spec, size, device).fingerprint for spec in set().union(*named.values())}
    learned = {arm: Learned(real.fingerprint, tuple(known[spec] for spec in each)) for arm, each in named.items()}
    for seed, recipes in arms.items():
        for arm, recipe in recipes.items():
            training.check_run(recipe, plan.folder_of(settings, arm, seed), settings.checkpoints, learned[arm])
    runs = [run for seed in settings.seeds for run in _runs(settings, seed, arms[seed], learned, eyes, device, report)]
    seen = layers.seen_by(teachers.load(specs[0], size, device), real)
    found = Measurements(
        settings.seeds,
        eyes,
        {one.kind: {arm: [run.curves[one.kind] for run in runs if run.arm == arm] for arm in first} for one in eyes},
        _blocks(runs, seen, device, report),
        layers.references(seen),
        costs.measure(first, report),
    )
    subject = _subject(first, seen, runs) | {"teachers": [*learned[REPA].teachers]}
    here = machine.fingerprint(torch.get_num_threads())
    resolved = _resolved(settings, device) | {"eyes": [one.kind for one in eyes]}
    return Result(tuple(to_rows(found)), subject, resolved, here, this_command())


def _runs(
    settings: RepaSettings,
    seed: int,
    recipes: Mapping[str, Recipe],
    learned: Mapping[str, Learned],
    eyes: Sequence[Eyes],
    device: torch.device,
    report: Report,
) -> Iterator[TrainedArm]:
    """Train all arms of a seed, and draw from every checkpoint."""
    for arm, recipe in recipes.items():
        name, folder = f"{plan.label(arm)}, seed {seed}", plan.folder_of(settings, arm, seed)
        paths = training.train_run(recipe, folder, settings.checkpoints, name, learned[arm], report)
        found = []
        for step, path in paths.items():
            report(f"drawing: {name}", step - settings.every, settings.steps)
            found.append(drawing.distances(path, eyes, settings.samples, settings.sampling_steps, device))
        report(f"drawing: {name}", settings.steps, settings.steps, f"distance {found[-1][eyes[0].kind]:.3g}")
        curves = {one.kind: Curve(tuple(paths), tuple(each[one.kind] for each in found)) for one in eyes}
        yield TrainedArm(arm, curves, paths[settings.steps])


def _blocks(
    runs: Sequence[TrainedArm], seen: SeenImages, device: torch.device, report: Report
) -> dict[str, list[dict[str, list[list[float]]]]]:
    """The measurements of the blocks by arm, those of --try apart, for the final checkpoints of all seeds."""
    found: dict[str, list[dict[str, list[list[float]]]]] = {arm: [] for arm in LABELS}
    read = [run for run in runs if run.arm in found]
    for done, run in enumerate(read):
        report("reading blocks", done, len(read))
        found[run.arm].append(layers.blocks(run.last, seen, device))
    report("reading blocks", len(read), len(read))
    return found


def _subject(recipes: Mapping[str, Recipe], seen: SeenImages, runs: Sequence[TrainedArm]) -> dict[str, Any]:
    """The subject of the comparison, without folders."""
    plain, weights = recipes[PLAIN].to_dict(), checkpoint.read(runs[0].last).ema.values()
    alignments = {arm: _alignment(recipe) for arm, recipe in recipes.items() if arm not in (PLAIN, RANDOM)}
    return {
        "name": plain["name"],
        "checkpoint_sha256": [sha256(run.last) for run in runs],
        "model": plain["model"],
        "parameters": sum(weight.numel() for weight in weights),
        "batch_size": plain["train"]["batch_size"],
        "optimizer": plain["optimizer"],
        "ema": plain["ema"],
        "alignment": alignments.pop(REPA),
        "tries": alignments,
        "aligned_block": recipes[REPA].objective["encoder_depth"],
        "teacher": {"name": seen.teacher_name, "fingerprint": seen.teacher_fingerprint},
        "images": seen.fingerprint,
    }


def _alignment(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.objective.items() if key not in ("teachers", "cache", "base")}


def _resolved(settings: RepaSettings, device: torch.device) -> dict[str, Any]:
    shown = asdict(settings) | {
        "seeds": list(settings.seeds),
        "assignments": list(settings.assignments) or None,
        "repa_assignments": list(settings.repa_assignments) or None,
        "tries": list(settings.tries) or None,
        "teacher": Path(settings.teacher).name or None,
        "features": Path(settings.features).name or None,
        "sampler": drawing.SAMPLER,
        "device": device.type,
    }
    return {key: value for key, value in shown.items() if key not in ("runs", "data")}
