import numpy as np
import pytest
import torch
from torch import nn

from dtrain.config import Ema
from dtrain.train.ema import Average


class EmaPytorch:
    """ema-pytorch 0.3 as the article's trainer calls it, written from its description (facts on DDPM, 1.7).

    The counter is tested before it is raised, and the decay is taken after.
    """

    def __init__(self, weights: np.ndarray, every: int, beta: float = 0.995, update_after_step: int = 100) -> None:
        self.average, self.step, self.initted = weights.copy(), 0, False
        self.every, self.beta, self.update_after_step = every, beta, update_after_step

    def update(self, online: np.ndarray) -> bool:
        """Whether it acted."""
        step = self.step
        self.step += 1
        if step % self.every:
            return False
        if step <= self.update_after_step or not self.initted:
            self.average = online.copy()
            self.initted = step > self.update_after_step
            return True
        epoch = max(0, self.step - self.update_after_step - 1)
        decay = 0.0 if epoch <= 0 else min(1 - (1 + epoch / 1.0) ** (-2 / 3), self.beta)
        self.average = decay * self.average + (1 - decay) * online
        return True


@pytest.mark.parametrize("every", [1, 7, 10])
def test_warmup_is_ema_pytorch_step_by_step(every: int) -> None:
    """600 steps of a random walk, the reference in float64, ours in float32."""
    walk = np.random.default_rng(0).standard_normal((600, 1, 50)).cumsum(axis=0).astype(np.float32)
    network = nn.Linear(50, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    ema, reference = Average(network, Ema("warmup", 0.995, every)), EmaPytorch(np.zeros((1, 50)), every)
    for step, online in enumerate(walk, 1):
        with torch.no_grad():
            network.weight.copy_(torch.from_numpy(online))
        before = ema.state_dict()["weight"].clone()
        ema.update(step)
        average = ema.state_dict()["weight"]
        acted = reference.update(online.astype(np.float64))
        assert acted == (not torch.equal(average, before)), step
        error = np.linalg.norm(average.numpy() - reference.average)
        assert error <= 1e-6 * np.linalg.norm(reference.average), step


def test_the_average_follows_weights_and_buffers() -> None:
    network = nn.BatchNorm1d(2)
    ema = Average(network, Ema("constant", 0.9, every=1))
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
    ema = Average(network, Ema("constant", 0.9, every=1))
    ema.load({"weight": torch.full((1, 2), 4.0), "bias": torch.zeros(1)})
    assert ema.state_dict()["weight"].tolist() == [[4.0, 4.0]]
    assert network.weight.max() < 4


def test_the_first_update_of_the_ramp_copies_the_weights_to_the_bit() -> None:
    network = nn.Linear(50, 3)
    ema = Average(network, Ema("ramp", 0.99, every=1))
    with torch.no_grad():
        network.weight.normal_()
    ema.update(1)
    assert torch.equal(ema.state_dict()["weight"], network.weight)
