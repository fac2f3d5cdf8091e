"""The plan of the comparison: runs that differ only in their objective, with the seeds and steps of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dbench.suites.repa.settings import RepaSettings
from drun.errors import ConfigError
from dtrain import config
from dtrain.config import Recipe
from dtrain.objectives.repa import ENCODER_DEPTH

#: The arms of the comparison: without alignment, with it, and with it to a teacher that knows nothing.
PLAIN, REPA, RANDOM = "plain", "repa", "random"
LABELS = {PLAIN: "plain", REPA: "REPA", RANDOM: "REPA to random weights"}
#: The settings that the suite itself makes for all runs.
DECIDED = {
    "train.seed": "--seeds",
    "train.steps": "--steps",
    "train.save_every": "--every",
    "data.source": "--data",
    "objective.teachers": "--teacher",
    "objective.cache": "the suite",
    "train.keep_checkpoints": "the suite",
    "train.preview_every": "the suite",
    "train.num_previews": "the suite",
    "train.preview_steps": "the suite",
    "optimizer.decay_share": "the suite, for a constant rate,",
}
#: All checkpoints are kept, because each is a point of a curve.
KEEP = 1_000_000
#: The depths in noise at which blocks are compared, in REPA's time: 0 for the image and 1 for noise.
DEPTHS = (0.25, 0.5)
#: What two recipes must have in common, besides the batch and the base of the objective.
SHARED = ("model", "process", "data", "optimizer", "ema")


def check(settings: RepaSettings) -> None:
    """Raises ConfigError for settings that make no comparison."""
    steps, every = settings.steps, settings.every
    if every < 1 or steps % every:
        raise ConfigError(f"--steps got {steps}, expected a multiple of --every, which is {every}: change either")
    if steps < 2 * every:
        raise ConfigError(
            f"--steps got {steps}, expected at least twice --every, which is {every}: a curve needs two points"
        )
    for option, count, least in (("--samples", settings.samples, 2), ("--sampling-steps", settings.sampling_steps, 1)):
        if count < least:
            raise ConfigError(f"{option} got {count}, expected at least {least}")
    if not settings.seeds or len(set(settings.seeds)) != len(settings.seeds) or min(settings.seeds) < 0:
        raise ConfigError(f"--seeds got {list(settings.seeds)}, expected different whole numbers such as 0,1,2")
    if len(set(settings.tries)) != len(settings.tries):
        raise ConfigError(f"--try got {list(settings.tries)}, expected different changes: leave one out")
    changes = {"--set": settings.assignments, "--repa-set": settings.repa_assignments}
    changes["--try"] = tuple(word for text in settings.tries for word in text.split() or [text])
    for option, given in changes.items():
        for assignment in given:
            _check_key(option, assignment)


def folder_of(settings: RepaSettings, arm: str, seed: int) -> Path:
    """The folder of a run."""
    return settings.runs / f"{quote(arm, safe='=')}-seed{seed}"


def label(arm: str) -> str:
    """An arm in words; those of --try are called by their changes."""
    return LABELS.get(arm, f"REPA with {arm}")


def plain_recipe(settings: RepaSettings, seed: int) -> Recipe:
    """Raises ConfigError for a wrong assignment, or images that nobody named."""
    where = [f"data.source={json.dumps(settings.data)}"] if settings.data else []
    recipe = config.load(settings.plain, [*where, *settings.assignments, *_schedule(settings, seed)])
    if "teachers" in recipe.objective:
        raise ConfigError(f"--plain got '{settings.plain}', which is aligned itself: name the recipe without alignment")
    if not recipe.data.source:
        raise ConfigError(f"recipe '{recipe.name}' names no images: say by --data where they are")
    return recipe


def aligned_objective(settings: RepaSettings, changes: str = "") -> dict[str, Any]:
    """The objective of the aligned recipe, with the settings applied, and then the changes of a --try.

    Raises:
        ConfigError: no recipe with alignment, one that differs from the plain one in more than that, or no teacher.
    """
    plain, aligned = (
        config.load(settings.plain),
        config.load(settings.aligned, [*settings.repa_assignments, *changes.split()]),
    )
    if "teachers" not in aligned.objective:
        raise ConfigError(f"--aligned got '{settings.aligned}', whose objective has no teachers: name a *-repa recipe")
    for key, ours, theirs in _shared(plain, aligned):
        if ours != theirs:
            raise ConfigError(
                f"'{plain.name}' has {key} = {ours!r}, '{aligned.name}' {theirs!r}: compare recipes that differ in "
                "their alignment alone"
            )
    objective = {"encoder_depth": ENCODER_DEPTH} | aligned.objective
    if settings.teacher:
        objective["teachers"] = [settings.teacher]
    if not isinstance(objective["teachers"], list) or not objective["teachers"]:
        raise ConfigError(f"objective.teachers got {objective['teachers']!r}, expected a list with at least one")
    return objective


def _shared(plain: Recipe, aligned: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Setting, and the values of both recipes, of all that they must have in common."""
    for section in SHARED:
        ours, theirs = plain.to_dict()[section], aligned.to_dict()[section]
        for key in sorted(ours.keys() | theirs.keys()):
            yield f"{section}.{key}", ours.get(key), theirs.get(key)
    yield "train.batch_size", plain.train.batch_size, aligned.train.batch_size
    yield "the base objective", dict(plain.objective), dict(aligned.objective["base"])


def arms(plain: Recipe, objectives: Mapping[str, Mapping[str, Any]], cache: str) -> dict[str, Recipe]:
    """Arm -> its recipe: the plain one, and the same with alignment added to the very same objective.

    Args:
        objectives: of the aligned arms; their teachers are such as `dtrain.teachers.load` takes.
        cache: folder of the teachers' features.
    """
    aligned = {
        arm: replace(plain, objective={**objective, "base": plain.objective, "cache": cache})
        for arm, objective in objectives.items()
    }
    return {PLAIN: plain, **aligned}


def _schedule(settings: RepaSettings, seed: int) -> list[str]:
    """One small preview at the end: the loop draws at least that.

    A constant rate: every point of a curve is then a run of that many steps, while a rate that falls would favour the
    last.
    """
    train = {
        "seed": seed,
        "steps": settings.steps,
        "save_every": settings.every,
        "preview_every": settings.steps,
        "num_previews": 1,
        "preview_steps": 1,
        "keep_checkpoints": KEEP,
    }
    return ["optimizer.decay_share=0.0", *(f"train.{key}={value}" for key, value in train.items())]


def _check_key(option: str, assignment: str) -> None:
    key = assignment.partition("=")[0].strip()
    if key in DECIDED:
        raise ConfigError(f"{option} got '{assignment}', which {DECIDED[key]} decides: leave it out")
    if option != "--set" and (not key.startswith("objective.") or key in ("objective.base", "objective.name")):
        raise ConfigError(f"{option} got '{assignment}', expected an option of REPA: use --set for all runs")
