"""Shares of classes that differ by more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from dbench.suites.quality import rows


def test_of_few_samples_other_shares_are_chance() -> None:
    """16 samples of ten classes in turn differ by 15 % from even shares, 4 by 60 %, one class alone by 90 %."""
    real = np.repeat(np.arange(10), 100)
    assert rows.mixture_rows(np.arange(16) % 10, real) == []
    assert rows.mixture_rows(np.arange(4), real) == []
    (row,) = rows.mixture_rows(np.full(16, 3), real)
    assert row.value == pytest.approx(90)
    assert rows.mixture_rows(np.arange(512), np.repeat(np.arange(1000), 2)) == []
