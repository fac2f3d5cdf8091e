"""What the blocks of a network know of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparisons import CPU

from dbench.core.record import Result
from dbench.suites.repa import layers, plan
from dbench.suites.repa.real import RealImages, open_real
from dbench.suites.repa.settings import RepaSettings
from drun.console import silent
from dtrain import teachers


@pytest.fixture
def real(result: Result, settings: RepaSettings) -> RealImages:
    return open_real(plan.plain_recipe(settings, 3), 12, silent)


def test_the_teacher_is_aligned_with_itself_and_pixels_tell_digits(real: RealImages, settings: RepaSettings) -> None:
    seen = layers.seen_by(teachers.load(settings.teacher, 16, CPU), real)
    assert seen.teacher.shape == (1797, 8)
    assert seen.alignment(seen.teacher) == pytest.approx(1, abs=0.01)
    told, shuffled = seen.probe(seen.pixels()), seen.probe(seen.pixels()[np.random.default_rng(0).permutation(1797)])
    assert told is not None
    assert shuffled is not None
    assert told > 0.85
    assert shuffled < 0.2


def test_without_labels_nothing_is_probed(real: RealImages, settings: RepaSettings) -> None:
    seen = layers.seen_by(teachers.load(settings.teacher, 16, CPU), replace(real, labels=None))
    assert seen.probe(seen.pixels()) is None
    path = settings.runs / "plain-seed3" / "digits-sit-0000002.pt"
    found = layers.blocks(path, seen, CPU)
    assert found["probe"] == []
    assert np.shape(found["alignment"]) == (2, 2)
    path.with_suffix(".layers.json").unlink()
