"""The inputs of timed calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbench.core import inputs


def test_the_bare_calls_get_the_loops_shapes(model: Any) -> None:
    x, t = inputs.example(model.open(), 3)
    assert (x.shape, x.dtype, t.tolist(), t.dtype) == ((3, 1, 16, 16), np.float32, [999.0] * 3, np.float32)
