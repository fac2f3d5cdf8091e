"""The loop beside as many bare calls."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from openings import by, on

from dbench.suites.latency import Settings
from dbench.suites.latency.loops import loop_rows
from drun.backends import null
from drun.bundle.reading import Bundle
from drun.console import silent


class Counting(null.Runtime):
    """Counts its calls; each takes some milliseconds."""

    calls = 0

    def predict(self, *arrays: Any) -> Any:
        self.calls += 1
        time.sleep(2e-3)
        return super().predict(*arrays)


@pytest.mark.usefixtures("quick")
def test_the_loop_makes_as_many_calls_as_are_compared_with_it(model: Any) -> None:
    bundle: Bundle = model.open()
    backend = Counting(bundle)
    rows = loop_rows([by(backend)], bundle, Settings(model.bundle, steps=4, repeats=8), silent)
    loop, bare, overhead = rows
    assert [row.name for row in rows] == ["null, loop of 4 steps", "null, 4 bare calls", "null, loop overhead"]
    assert backend.calls == 2 * 4 * (1 + 8)  # a loop and its calls, once untimed
    pairs = zip(loop.details["latencies_ms"], bare.details["latencies_ms"], strict=True)
    assert all(one >= 4 * 2 for row in (loop, bare) for one in row.details["latencies_ms"])
    assert overhead.value == pytest.approx(np.median([100 * (whole - part) / part for whole, part in pairs]))


@pytest.mark.usefixtures("quick")
def test_on_a_network_that_does_nothing_the_loop_takes_longer_than_its_calls(model: Any) -> None:
    bundle: Bundle = model.open()
    settings = Settings(model.bundle, steps=20, repeats=15)
    loop, bare, overhead = loop_rows([on("null", bundle, threads=1)], bundle, settings, silent)
    assert loop.value > bare.value > 0
    assert overhead.value > 0
