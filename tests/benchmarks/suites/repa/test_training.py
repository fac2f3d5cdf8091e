"""Runs go on where they stopped, and no other run is taken for them."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import ALIGNED, tensors

from dbench.core.record import Result
from dbench.suites.repa import measuring, plan, training
from dbench.suites.repa.plan import REPA
from dbench.suites.repa.settings import RepaSettings
from dbench.suites.repa.training import Learned
from drun.console import silent
from drun.errors import ConfigError
from drun.foreign import read_json
from dtrain import config
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe


def repa_recipe(settings: RepaSettings) -> Recipe:
    plain, objective = plan.plain_recipe(settings, 3), plan.aligned_objective(settings)
    cache = str(settings.runs / measuring.CACHE)
    return plan.arms(plain, {REPA: objective | {"teachers": [settings.teacher]}}, cache)[REPA]


def changed(recipe: Recipe, assignments: list[str]) -> Recipe:
    """With changes that a recipe would have by --set."""
    sections = recipe.to_dict()
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        section, _, name = key.partition(".")
        sections[section][name] = tomllib.loads(f"x = {value}")["x"]
    return config.from_dict(sections)


def learned(folder: Path) -> Learned:
    saved = read_json(folder / training.LEARNED)
    return Learned(saved["images"], tuple(saved["teachers"]))


@pytest.fixture
def copied(result: Result, settings: RepaSettings, tmp_path: Path) -> Path:
    """The finished REPA run, to be damaged."""
    return Path(shutil.copytree(settings.runs / "repa-seed3", tmp_path / "run"))


def test_an_unfinished_run_ends_as_an_uninterrupted_one(copied: Path, settings: RepaSettings) -> None:
    recipe = repa_recipe(settings)
    last = checkpoint.path_at(copied, recipe, 4)
    whole = tensors(last)
    last.unlink()
    kept = checkpoint.path_at(copied, recipe, 2).stat().st_mtime_ns
    paths = training.train_run(recipe, copied, [2, 4], "REPA", learned(copied), silent)
    assert list(paths.values()) == [checkpoint.path_at(copied, recipe, step) for step in (2, 4)]
    assert paths[2].stat().st_mtime_ns == kept
    again = tensors(last)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_longer_run_serves_a_shorter_comparison(copied: Path, settings: RepaSettings) -> None:
    shorter = replace(repa_recipe(settings), train=replace(repa_recipe(settings).train, steps=2))
    assert list(training.train_run(shorter, copied, [2], "REPA", learned(copied), silent)) == [2]
    rate = replace(shorter.optimizer, decay_share=0.5)
    with pytest.raises(ConfigError, match=r"trained with optimizer\.decay_share"):
        training.train_run(replace(shorter, optimizer=rate), copied, [2], "REPA", learned(copied), silent)


def test_another_run_is_not_taken_for_this_one(copied: Path, settings: RepaSettings) -> None:
    recipe = repa_recipe(replace(settings, repa_assignments=(*ALIGNED, "objective.weight=1.0")))
    with pytest.raises(ConfigError, match=r"trained with objective\.weight = 0\.5, now it is 1\.0: choose another"):
        training.train_run(recipe, copied, [2, 4], "REPA", learned(copied), silent)
    with pytest.raises(ConfigError, match="no checkpoint of step 1: choose its --every"):
        training.train_run(repa_recipe(settings), copied, [1, 2, 3, 4], "REPA", learned(copied), silent)


@pytest.mark.parametrize(
    ("change", "what"), [({"images": "0" * 64}, "images"), ({"teachers": ("0" * 64,)}, "teachers")]
)
def test_what_it_learned_from_counts_by_its_content(
    copied: Path, settings: RepaSettings, change: dict[str, Any], what: str
) -> None:
    """Folders may be called otherwise, or hold something else by the same name."""
    recipe, same = repa_recipe(settings), learned(copied)
    named = replace(recipe, objective=recipe.objective | {"cache": "elsewhere", "teachers": ["another/name"]})
    assert len(training.train_run(named, copied, [2, 4], "REPA", same, silent)) == 2
    with pytest.raises(ConfigError, match=f"was trained with other {what} of this name: choose another folder"):
        training.train_run(recipe, copied, [2, 4], "REPA", replace(same, **change), silent)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.num_classes=3"], "has labels up to 9, the model has 3 classes"),
        (["data.augment=['hflip']"], r"data\.augment got hflip, cached features are of the pictures as they are"),
        (["train.accumulate=3"], "expected a multiple of 1 processes times train.accumulate = 3"),
        (["objective.projector='gru'"], "objective.projector got 'gru'"),
        (["objective.wieght=2"], "wieght"),
        (["model.num_classes=0", "data.label_dropout=0.1"], "label_dropout"),
    ],
)
def test_what_would_fail_later_is_found_before(
    assignments: list[str], message: str, settings: RepaSettings, tmp_path: Path
) -> None:
    recipe = repa_recipe(settings)
    with pytest.raises(ConfigError, match=message):
        training.check_fits(changed(recipe, assignments), tmp_path / "run")


def test_all_folders_are_compared_before_anything_is_trained(result: Result, settings: RepaSettings) -> None:
    """Also those of later seeds."""
    other = replace(settings, seeds=(8, 3), repa_assignments=(*ALIGNED, "objective.weight=1.0"), tries=())
    with pytest.raises(ConfigError, match=r"repa-seed3' was trained with objective\.weight = 0\.5, now it is 1\.0"):
        measuring.measure(other, silent)
    assert not list(settings.runs.glob("*-seed8"))
