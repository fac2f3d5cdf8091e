"""The plan of the comparison: two recipes that differ only in their objective, with the seeds and steps of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from dbench.suites.repa.settings import RepaSettings
from drun.errors import ConfigError
from dtrain import config
from dtrain.config import Recipe

#: The arms of the comparison, and the recipes that they come from.
PLAIN, REPA = "plain", "repa"
LABELS = {PLAIN: "plain", REPA: "REPA"}
RECIPES = {PLAIN: "digits-sit", REPA: "digits-sit-repa"}
TEACHER = "digits-teacher"
#: The settings that the suite itself makes for both runs.
DECIDED = {
    "train.seed": "--seeds",
    "train.steps": "--steps",
    "train.save_every": "--every",
    "optimizer.decay_share": "the suite, for a constant rate,",
}
#: All checkpoints are kept, because each is a point of a curve.
KEEP = 1_000_000
#: The depths in noise at which blocks are compared, in REPA's time: 0 for the image and 1 for noise.
DEPTHS = (0.25, 0.5)


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
    for option, given in (("--set", settings.assignments), ("--repa-set", settings.repa_assignments)):
        for assignment in given:
            _check_key(option, assignment)


def recipes(settings: RepaSettings, seed: int) -> dict[str, Recipe]:
    """Arm -> its recipe. REPA's is the plain one with alignment added to the very same objective.

    Raises:
        ConfigError: a wrong assignment, or images other than the digits, which the suite compares with.
    """
    plain = config.load(RECIPES[PLAIN], [*settings.assignments, *_schedule(settings, seed)])
    if plain.data.source != "digits":
        raise ConfigError(f"data.source got '{plain.data.source}', expected digits: dbench repa compares with these")
    teacher, features = str(teacher_folder(settings)), str(settings.runs / "features")
    where = [f"objective.teachers={_toml([teacher])}", f"objective.cache={_toml(features)}"]
    aligned = config.load(RECIPES[REPA], [*where, *settings.repa_assignments]).objective
    return {PLAIN: plain, REPA: replace(plain, name=RECIPES[REPA], objective=aligned | {"base": plain.objective})}


def teacher_folder(settings: RepaSettings) -> Path:
    """The folder of the suite's own teacher."""
    return settings.runs / "teacher"


def teacher_of(recipe: Recipe) -> str:
    """The first teacher of the REPA arm, as `dtrain.teachers.load` takes it."""
    teachers = recipe.objective["teachers"]
    if not isinstance(teachers, list) or not teachers:
        raise ConfigError(f"objective.teachers got {teachers!r}, expected a list with at least one teacher")
    return str(teachers[0])


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
    if option == "--repa-set" and (not key.startswith("objective.") or key in ("objective.base", "objective.name")):
        raise ConfigError(f"{option} got '{assignment}', expected an option of REPA: use --set for both runs")


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
