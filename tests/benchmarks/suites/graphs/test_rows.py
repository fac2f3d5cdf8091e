"""Rows of a candidate at a batch size."""

from __future__ import annotations

import numpy as np

from dbench.core.timing import Timing
from dbench.suites.graphs.rows import Measured, rows_of
from drun.run import parity

PROOF = parity.compare("t = 1", np.ones(4), np.ones(4) + 1e-3, 1e-5)


def test_a_ratio_within_the_noise_is_doubtful() -> None:
    default = Timing(tuple(float(value) for value in range(20, 30)))
    fast, alike = (Timing(tuple(value * factor for value in default.latencies_ms)) for factor in (0.5, 1.0))
    rows = rows_of(Measured("half", 8, default, fast, PROOF, 0.5, 2_000_000), "is quick")
    found = {row.name: row for row in rows}
    ratio = found["half, batch 8, times as fast as the default"]
    assert (ratio.value, ratio.unit, ratio.doubt) == (2.0, "x", "")
    assert ratio.details["interval_95"] == (2.0, 2.0)
    assert found["half, batch 8, call"].details["is"] == "is quick"
    assert found["half, batch 8, files"].value == 2.0
    error = found["half, batch 8, relative L2"]
    assert np.isclose(error.value, 1e-3)
    assert error.details["passed"] is False
    again = rows_of(Measured("same", 8, default, alike, PROOF, 0.5, 1), "")[1]
    assert again.doubt == "its 95 % interval reaches 1"
