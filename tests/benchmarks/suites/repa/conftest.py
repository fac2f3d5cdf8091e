from __future__ import annotations

import pytest
from comparisons import ALIGNED, BOTH

from dbench.core.record import Result
from dbench.suites import repa
from dbench.suites.repa import plan
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from dtrain import config, device
from dtrain.train.loop import train


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RepaSettings:
    """Beside a teacher that has seen two batches."""
    runs = tmp_path_factory.mktemp("repa")
    small = ("model.hidden_size=8", "model.depth=1", "model.num_heads=2", "train.steps=2", "train.batch_size=4")
    train(config.load(plan.TEACHER, list(small)), runs / "teacher", device.choose("cpu", "fp32", "off"), False, silent)
    return RepaSettings(4, (3,), 2, 12, 2, BOTH, ALIGNED, runs)


@pytest.fixture(scope="session")
def result(settings: RepaSettings) -> Result:
    return repa.measure(settings, silent)
