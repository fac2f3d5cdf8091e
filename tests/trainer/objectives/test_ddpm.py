"""Denoising of a discrete process, against its formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from dtrain import objectives
from dtrain.draws import Draws
from dtrain.objectives import Batch

CPU = torch.device("cpu")


class Recorder(nn.Module):
    """Answers with a fixed output and keeps what it was asked."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x, self.t = x, t
        return self.output


def batch(x0: Tensor, labels: Tensor | None = None, step: int = 3) -> Batch:
    n = len(x0)
    return Batch(x0, labels, Draws(0, step, n, slice(0, n), CPU), step)


def run(process: DiscreteProcess, x0: Tensor, **options: object) -> tuple[float, Recorder, np.ndarray]:
    """The loss, the network's inputs, and the noise recovered from x_t = alpha x0 + sigma eps."""
    objective = objectives.build({"name": "ddpm"} | options, process, CPU)
    network = Recorder(torch.full_like(x0, 0.3))
    loss = objective.loss(network, batch(x0))["loss"]
    abar = np.cumprod(1 - process.betas)[network.t.numpy()].reshape(-1, 1, 1, 1)
    noise = (network.x.numpy() - np.sqrt(abar) * x0.numpy()) / np.sqrt(1 - abar)
    return float(loss), network, noise


@pytest.fixture
def x0() -> Tensor:
    return torch.rand(64, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_noise_is_standard_normal_and_t_uniform_per_image(process: DiscreteProcess, x0: Tensor) -> None:
    _, network, noise = run(process, x0.repeat(20, 1, 1, 1))
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    t = network.t.numpy()
    assert t.min() < 20
    assert t.max() > 980
    assert len(np.unique(t)) > 500


def test_per_batch_draws_one_t_for_all(process: DiscreteProcess, x0: Tensor) -> None:
    _, network, _ = run(process, x0, timesteps="per_batch")
    assert len(np.unique(network.t.numpy())) == 1
    assert network.t.shape == (64,)


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("prediction", ["noise", "x0", "velocity"])
def test_loss_against_its_formula(process: DiscreteProcess, x0: Tensor, prediction: str, loss: str) -> None:
    value, network, noise = run(process, x0, prediction=prediction, loss=loss)
    abar = np.cumprod(1 - process.betas)[network.t.numpy()].reshape(-1, 1, 1, 1)
    target = {
        "noise": noise,
        "x0": x0.numpy(),
        "velocity": np.sqrt(abar) * noise - np.sqrt(1 - abar) * x0.numpy(),  # Salimans & Ho 2022
    }[prediction]
    error = 0.3 - target
    # The noise is recovered by a division by sqrt(1 - abar), small at small t, hence the tolerance.
    assert value == pytest.approx(np.mean(error**2 if loss == "mse" else np.abs(error)), rel=1e-4)


@pytest.mark.parametrize("prediction", ["noise", "x0", "velocity"])
def test_min_snr_weights_against_hang_et_al(process: DiscreteProcess, x0: Tensor, prediction: str) -> None:
    gamma = 5.0
    value, network, noise = run(process, x0, prediction=prediction, min_snr_gamma=gamma)
    abar = np.cumprod(1 - process.betas)[network.t.numpy()]
    snr = abar / (1 - abar)
    weight = {
        "noise": np.minimum(snr, gamma) / snr,
        "x0": np.minimum(snr, gamma),
        "velocity": np.minimum(snr, gamma) / (snr + 1),
    }[prediction]
    wide = abar.reshape(-1, 1, 1, 1)
    target = {"noise": noise, "x0": x0.numpy(), "velocity": np.sqrt(wide) * noise - np.sqrt(1 - wide) * x0.numpy()}
    per_image = ((0.3 - target[prediction]) ** 2).reshape(64, -1).mean(axis=1)
    assert value == pytest.approx((weight * per_image).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ddpm", "prediction": "eps"}, "objective.prediction got 'eps', expected one of noise, x0"),
        ({"name": "ddpm", "loss": "huber"}, "objective.loss got 'huber', expected one of mse, l1"),
        ({"name": "ddpm", "timesteps": "often"}, "expected one of per_image, per_batch"),
    ],
)
def test_wrong_options_are_named(process: DiscreteProcess, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.build(options, process, CPU)
