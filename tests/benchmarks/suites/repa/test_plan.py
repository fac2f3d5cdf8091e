"""The recipes of all arms, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dbench.suites.repa import plan
from dbench.suites.repa.plan import PLAIN, RANDOM, REPA
from dbench.suites.repa.settings import RepaSettings, parse_seeds
from drun.errors import ConfigError


def test_the_arms_differ_in_alignment_alone() -> None:
    both = ("objective.times=logit_normal", "optimizer.learning_rate=3e-4", "train.batch_size=4")
    aligned = ("objective.encoder_depth=1", "objective.weight=2.0")
    settings = RepaSettings(steps=4, seeds=(5,), every=2, assignments=both, repa_assignments=aligned)
    plain, objective = plan.plain_recipe(settings, 5), plan.aligned_objective(settings)
    arms = plan.arms(plain, {REPA: objective | {"teachers": ["a"]}, RANDOM: objective | {"teachers": ["b"]}}, "cache")
    assert arms[PLAIN] == plain
    for arm, teacher in ((REPA, "a"), (RANDOM, "b")):
        own = arms[arm].objective
        assert replace(arms[arm], objective=plain.objective) == plain
        assert (own["base"], own["teachers"], own["cache"]) == (plain.objective, [teacher], "cache")
        assert (own["encoder_depth"], own["weight"]) == (1, 2.0)
    assert (plain.objective["times"], plain.optimizer.learning_rate) == ("logit_normal", 3e-4)
    assert (plain.train.seed, plain.train.steps, plain.train.save_every) == (5, 4, 2)


def test_a_try_changes_the_aligned_objective_once_more() -> None:
    settings = RepaSettings(repa_assignments=("objective.weight=2.0", "objective.encoder_depth=1"))
    tried = plan.aligned_objective(settings, "objective.weight=0.25  objective.projector=conv")
    assert tried == plan.aligned_objective(settings) | {"weight": 0.25, "projector": "conv"}


def test_the_teachers() -> None:
    assert plan.aligned_objective(RepaSettings())["teachers"] == ["runs/digits-teacher"]
    assert plan.aligned_objective(RepaSettings(teacher="mine"))["teachers"] == ["mine"]


def test_images_are_named_by_the_recipe_or_the_user(tmp_path: Path) -> None:
    fashion = RepaSettings("fashion-sit", "fashion-sit-repa")
    with pytest.raises(ConfigError, match="recipe 'fashion-sit' names no images: say by --data where they are"):
        plan.plain_recipe(fashion, 0)
    assert plan.plain_recipe(replace(fashion, data=str(tmp_path)), 0).data.source == str(tmp_path)


@pytest.mark.parametrize(
    ("plain", "aligned", "message"),
    [
        ("digits-sit", "fashion-sit-repa", r"'digits-sit' has model\.input_size = 16, 'fashion-sit-repa' 28"),
        ("sit-xl-2", "sit-xl-2-repa", r"'sit-xl-2' has process\.noise_time = 0, 'sit-xl-2-repa' 1"),
        ("sit-b-2-repa", "sit-l-2-repa", r"'sit-b-2-repa' has model\.size = 'B', 'sit-l-2-repa' 'L'"),
        ("digits-sit", "fashion-sit", "--aligned got 'fashion-sit', whose objective has no teachers"),
    ],
)
def test_recipes_that_differ_in_more_than_their_objective(plain: str, aligned: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan.aligned_objective(RepaSettings(plain, aligned))


def test_seeds() -> None:
    assert parse_seeds("0, 12,3") == (0, 12, 3)


@pytest.mark.parametrize("text", ["", "one", "0;1", "0,", "-1", "0..2"])
def test_seeds_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds got"):
        parse_seeds(text)
