from __future__ import annotations

import pytest
from comparisons import ALIGNED, BOTH, TRIED

from dbench.core.record import Result
from dbench.suites import repa
from dbench.suites.repa import costs
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from dtrain import config, device
from dtrain.train.loop import train

SHORT = ("train.steps=2", "train.batch_size=4", "data.source=digits", "data.image_size=16")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RepaSettings:
    """With a teacher and a network of features that have seen two batches."""
    runs, placement = tmp_path_factory.mktemp("repa"), device.choose("cpu", "fp32", "off")
    small = ("model.hidden_size=8", "model.depth=1", "model.num_heads=2", *SHORT)
    teacher, judge = runs / "a-teacher", runs / "a-judge"
    train(config.load("digits-teacher", [*small]), teacher, placement, False, silent)
    train(config.load("fashion-features", ["model.width=32", *SHORT]), judge, placement, False, silent)
    return RepaSettings(
        teacher=str(teacher), features=str(judge), steps=4, seeds=(3,), every=2, samples=12, sampling_steps=2,
        assignments=BOTH, repa_assignments=ALIGNED, tries=(TRIED,), runs=runs,
    )  # fmt: skip


@pytest.fixture(scope="session")
def result(settings: RepaSettings) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "REPEATS", 2)
        return repa.measure(settings, silent)
