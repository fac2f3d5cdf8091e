import pytest
import torch
from torch import nn

from dtrain.config import Ema as Law
from dtrain.train.ema import Ema, decay_at

WARMUP = Law("warmup", 0.995, every=10)
EVERY_STEP = Law("warmup", 0.995, every=1)


@pytest.mark.parametrize(("step", "decay"), [(111, 0.798), (201, 0.954), (501, 0.982), (1001, 0.989), (2001, 0.9935)])
def test_warmup_values_of_the_article(step: int, decay: float) -> None:
    assert decay_at(EVERY_STEP, step) == pytest.approx(decay, abs=6e-4)


def test_warmup_copies_up_to_step_100_and_is_capped() -> None:
    assert decay_at(WARMUP, 100) == 0.0
    assert decay_at(WARMUP, 10_000) == 0.995
    assert decay_at(EVERY_STEP, 2900) < 0.995
    assert decay_at(EVERY_STEP, 2960) == 0.995


def test_warmup_acts_on_every_tenth_step_only() -> None:
    assert [step for step in range(1, 31) if decay_at(WARMUP, step) is not None] == [10, 20, 30]


def test_the_average_follows_weights_and_buffers() -> None:
    network = nn.BatchNorm1d(2)
    ema = Ema(network, Law("constant", 0.9, every=1))
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.running_mean.fill_(5.0)
        network.num_batches_tracked.fill_(7)
    ema.update(1)
    ema.update(2)
    ema.update(3)
    average = ema.state_dict()
    assert average["weight"].tolist() == pytest.approx([1.271, 1.271])  # 1 -> 1.1 -> 1.19 -> 1.271
    assert average["running_mean"].tolist() == pytest.approx([1.355, 1.355])
    assert average["num_batches_tracked"] == 7
    assert not any(tensor.requires_grad for tensor in average.values())
    assert network.weight.tolist() == [2.0, 2.0]


def test_a_saved_average_is_taken_over() -> None:
    network = nn.Linear(2, 1)
    ema = Ema(network, Law("constant", 0.9, every=1))
    ema.load({"weight": torch.full((1, 2), 4.0), "bias": torch.zeros(1)})
    assert ema.state_dict()["weight"].tolist() == [[4.0, 4.0]]
    assert network.weight.max() < 4
