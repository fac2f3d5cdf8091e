"""What the blocks of a network know of the digits."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import CPU

from dbench.core.record import Result
from dbench.suites.repa import layers, plan
from dbench.suites.repa.plan import PLAIN
from dbench.suites.repa.settings import RepaSettings


def test_the_teacher_is_aligned_with_itself_and_pixels_tell_digits(result: Result, settings: RepaSettings) -> None:
    digits = layers.open_digits(plan.recipes(settings, 3)[PLAIN], str(settings.runs / "teacher"), CPU)
    assert digits.teacher.shape == (1797, 8)
    assert digits.alignment(digits.teacher) == pytest.approx(1, abs=0.01)
    assert digits.probe(digits.pixels()) > 0.85
    shuffled = digits.pixels()[np.random.default_rng(0).permutation(1797)]
    assert digits.probe(shuffled) < 0.2
