"""The inputs of timed calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbench.core import inputs


@pytest.mark.slow
def test_the_bare_calls_get_the_loops_shapes(model: Any) -> None:
    bundle = model.open()
    x, t = inputs.example(bundle, 3)
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((3, 1, 16, 16), np.float32, (3,), np.float32)
    process = bundle.manifest.card.process
    assert float(process.sigma(float(t[0]))) == pytest.approx(float(process.alpha(float(t[0]))), rel=0.01)
