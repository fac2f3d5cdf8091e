"""The recipes of both arms, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dbench.suites.repa import plan
from dbench.suites.repa.plan import PLAIN, REPA
from dbench.suites.repa.settings import RepaSettings, parse_seeds
from drun.errors import ConfigError


def test_the_arms_differ_in_alignment_alone() -> None:
    both = ("objective.times=logit_normal", "optimizer.learning_rate=3e-4", "train.batch_size=4")
    aligned = ("objective.encoder_depth=1", "objective.weight=2.0")
    settings = RepaSettings(4, (5,), 2, assignments=both, repa_assignments=aligned, runs=Path("new runs"))
    arms = plan.recipes(settings, 5)
    assert replace(arms[REPA], name=arms[PLAIN].name, objective=arms[PLAIN].objective) == arms[PLAIN]
    assert arms[REPA].objective["base"] == arms[PLAIN].objective
    assert (arms[PLAIN].objective["times"], arms[PLAIN].optimizer.learning_rate) == ("logit_normal", 3e-4)
    assert (arms[PLAIN].train.seed, arms[PLAIN].train.steps, arms[PLAIN].train.save_every) == (5, 4, 2)
    assert (arms[REPA].objective["encoder_depth"], arms[REPA].objective["weight"]) == (1, 2.0)
    assert plan.teacher_of(arms[REPA]) == "new runs/teacher"
    assert arms[REPA].objective["cache"] == "new runs/features"


def test_another_teacher() -> None:
    arms = plan.recipes(RepaSettings(repa_assignments=('objective.teachers=["mine"]',)), 0)
    assert plan.teacher_of(arms[REPA]) == "mine"


def test_seeds() -> None:
    assert parse_seeds("0, 12,3") == (0, 12, 3)


@pytest.mark.parametrize("text", ["", "one", "0;1", "0,", "-1", "0..2"])
def test_seeds_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds got"):
        parse_seeds(text)
