import pytest

from dtrain.config import Optimizer
from dtrain.train.step import learning_rate


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = Optimizer(learning_rate=1.0, warmup_steps=4, decay_share=0.5)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[50] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.0, abs=2e-3)
    assert learning_rate(Optimizer(learning_rate=0.1), 99, 100) == 0.1
