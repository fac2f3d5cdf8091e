"""Runs go on where they stopped, and no other run is taken for them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comparisons import ALIGNED, tensors

from dbench.core.record import Result
from dbench.suites.repa import measuring, plan, training
from dbench.suites.repa.plan import REPA
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from drun.errors import ConfigError
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe


def repa_recipe(settings: RepaSettings) -> Recipe:
    plain, objective = plan.plain_recipe(settings, 3), plan.aligned_objective(settings)
    cache = str(settings.runs / measuring.CACHE)
    return plan.arms(plain, {REPA: objective | {"teachers": [settings.teacher]}}, cache)[REPA]


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
    paths = training.train_run(recipe, copied, [2, 4], "REPA", silent)
    assert list(paths.values()) == [checkpoint.path_at(copied, recipe, step) for step in (2, 4)]
    assert paths[2].stat().st_mtime_ns == kept
    again = tensors(last)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_longer_run_serves_a_shorter_comparison(copied: Path, settings: RepaSettings) -> None:
    shorter = replace(repa_recipe(settings), train=replace(repa_recipe(settings).train, steps=2))
    assert list(training.train_run(shorter, copied, [2], "REPA", silent)) == [2]
    rate = replace(shorter.optimizer, decay_share=0.5)
    with pytest.raises(ConfigError, match=r"trained with optimizer\.decay_share"):
        training.train_run(replace(shorter, optimizer=rate), copied, [2], "REPA", silent)


def test_another_run_is_not_taken_for_this_one(copied: Path, settings: RepaSettings) -> None:
    recipe = repa_recipe(replace(settings, repa_assignments=(*ALIGNED, "objective.weight=1.0")))
    with pytest.raises(ConfigError, match=r"trained with objective\.weight = 0\.5, now it is 1\.0: choose another"):
        training.train_run(recipe, copied, [2, 4], "REPA", silent)
    with pytest.raises(ConfigError, match="no checkpoint of step 1: choose its --every"):
        training.train_run(repa_recipe(settings), copied, [1, 2, 3, 4], "REPA", silent)
