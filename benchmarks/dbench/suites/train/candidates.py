"""The candidates: a recipe on synthetic data, with its teachers live, cached and absent."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbench.core import subject
from dbench.suites.train import synthetic
from dbench.suites.train.settings import CACHED, LIVE, NONE, TEACHER, TrainSettings
from drun.console import Report
from drun.errors import ConfigError
from dtrain import config
from dtrain.config import Recipe
from dtrain.teachers import TEACHERS

#: Untimed rounds before the timed turns, after the warm-up of each candidate alone.
LEAD_IN_ROUNDS = 1
#: The fewest warm-up steps: one that compiles and one whose memory is measured.
LEAST_WARMUP = 2
AS_GIVEN, RANDOM = "as given", "random weights of the real size and class: speed does not depend on them"


def resolve(settings: TrainSettings) -> Recipe:
    """The recipe with the settings applied, long enough for all steps.

    Raises:
        ConfigError: an unknown recipe or setting, or too few steps.
    """
    if settings.warmup < LEAST_WARMUP or settings.steps < 1:
        got = f"{settings.warmup} and {settings.steps}"
        raise ConfigError(f"--warmup and --steps got {got}, expected at least {LEAST_WARMUP} and 1")
    options = {"batch_size": settings.batch or "", "precision": settings.precision, "compile": settings.compile}
    given = [f"train.{key}={value}" for key, value in options.items() if value not in ("", "auto")]
    recipe = config.load(settings.recipe, [*settings.assignments, *given])
    num_steps = settings.warmup + LEAD_IN_ROUNDS + 2 * settings.steps
    return replace(recipe, train=replace(recipe.train, steps=max(recipe.train.steps, num_steps)))


def choose(recipe: Recipe, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Which of `live`, `cached` and `none` to measure: the wanted ones or all three; () for a recipe without teachers.

    Raises:
        ConfigError: another word, or one for a recipe without alignment, or a cache of the user's.
    """
    if unknown := [word for word in wanted if word not in TEACHER]:
        raise ConfigError(f"--teacher got '{unknown[0]}', expected one of {', '.join(TEACHER)}")
    if "teachers" not in recipe.objective:
        if wanted:
            raise ConfigError(f"--teacher got '{wanted[0]}', but recipe '{recipe.name}' has no teachers: leave it out")
        return ()
    if recipe.objective.get("cache"):
        raise ConfigError("--set objective.cache has no use here, where a cache is made: use --teacher cached")
    return tuple(word for word in TEACHER if word in (wanted or TEACHER))


def prepare(recipe: Recipe, chosen: tuple[str, ...], folder: Path, report: Report) -> dict[str, Recipe]:
    """Synthetic data, teachers of random weights, and for each candidate a recipe that uses them, by its name."""
    source = synthetic.write_data(recipe, folder, recipe.train.batch_size)
    recipe = replace(recipe, data=replace(recipe.data, source=str(source)))
    objective = dict(recipe.objective)
    if not chosen:
        return {recipe.name: recipe}
    if chosen != (NONE,):
        specs = list(objective["teachers"])
        objective["teachers"] = []
        for done, spec in enumerate(specs):
            report("making teachers of random weights", done, len(specs))
            objective["teachers"].append(synthetic.stand_in(spec, recipe.data.image_size, folder / f"teacher-{done}"))
    objectives = {LIVE: objective, CACHED: objective | {"cache": str(folder / "features")}, NONE: objective["base"]}
    return {f"teacher {word}": replace(recipe, objective=objectives[word]) for word in chosen}


def subject_of(recipe: Recipe, chosen: tuple[str, ...]) -> dict[str, Any]:
    """The subject of the measurement, without folders."""
    specs = recipe.objective["teachers"] if set(chosen) - {NONE} else ()
    published = any(spec.partition("=")[0] in TEACHERS for spec in specs)
    libraries = ("accelerate", "transformers") if published else ("accelerate",)
    return subject.of_recipe(recipe.to_dict()) | {
        "model": recipe.model,
        "data": f"{recipe.train.batch_size} random images, made on the spot and read from the page cache",
        "teachers": {_shown(spec): AS_GIVEN if _is_given(spec) else RANDOM for spec in specs},
        "versions": {library: version(library) for library in libraries},
    }


def _shown(spec: str) -> str:
    """The options without their folders."""
    name, _, location = spec.partition("=")
    return f"{name}={Path(location).name}" if location else Path(name).name


def _is_given(spec: str) -> bool:
    return "=" in spec or Path(spec).exists()
