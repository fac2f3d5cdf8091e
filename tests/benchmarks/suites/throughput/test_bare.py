"""The network calls of a walk, without its steps."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Toy

from dbench.suites.kernel.processor import HAS_COMPILER, Processor
from dbench.suites.throughput.bare import BareCalls
from drun.device.walk import DeviceWalk

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")


class Counting(Toy):
    def __init__(self, capturable: bool) -> None:
        super().__init__((2, 4, 4), num_classes=3)
        self.is_capturable = capturable
        self.sizes: list[int] = []

    def predict(self, x, t, labels=None):  # type: ignore[no-untyped-def]
        self.sizes.append(len(x))
        assert np.isfinite(x).all()
        assert set(labels) <= {0, 2}
        assert set(np.broadcast_to(t, len(x))) == {0.5}
        return super().predict(x, t, labels)


@pytest.mark.parametrize("capturable", [True, False])
def test_each_row_is_one_call_and_nothing_else(capturable: bool) -> None:
    device, toy = Processor(), Counting(capturable)
    rows = [False, True, True, False, True]
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4), dtype=np.float32)
    run = BareCalls(DeviceWalk(device, toy, 2), x, 0.5, np.array([0, 2, 0]), rows)
    toy.sizes.clear()
    run()
    assert toy.sizes == [3, 6, 6, 3, 6]
    assert device.num_updates == 0
    assert device.num_captured == (2 if capturable else 0)
    assert device.num_waits == 1
