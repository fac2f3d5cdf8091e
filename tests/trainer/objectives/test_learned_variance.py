"""The hybrid loss of improved DDPM against the formulas of the variational bound, written with distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError
from dtrain import objectives
from dtrain.draws import Draws
from dtrain.objectives import Batch
from dtrain.objectives.ddpm import pixel_code_length

CPU = torch.device("cpu")
BETAS = np.linspace(1e-4, 0.02, 1000)
ABAR = np.cumprod(1 - BETAS)


class Fixed(nn.Module):
    """A learnable output of 2 C channels, which keeps its inputs."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x, self.t = x, t
        return self.output


def losses(x0: Tensor, output: Tensor, step: int = 0) -> tuple[objectives.Losses, Fixed]:
    objective = objectives.build({"name": "ddpm", "learned_variance": True}, DiscreteProcess("linear"), CPU)
    network, n = Fixed(output), len(x0)
    return objective.loss(network, Batch(x0, None, Draws(0, step, n, slice(0, n), CPU), step)), network


def bound_of(x0: float, x: float, eps: float, v: float, t: int) -> float:
    """One dimension's term in bits: KL of the posterior to the model's, or the code length at t = 0."""
    alpha, abar, beta = 1 - BETAS[t], ABAR[t], BETAS[t]
    previous = ABAR[t - 1] if t else 1.0
    small = beta * (1 - previous) / (1 - abar) if t else BETAS[1] * (1 - ABAR[0]) / (1 - ABAR[1])
    estimate = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)

    def mean(clean: float) -> float:
        return math.sqrt(previous) * beta / (1 - abar) * clean + math.sqrt(alpha) * (1 - previous) / (1 - abar) * x

    share = (v + 1) / 2
    std = math.exp(0.5 * (share * math.log(beta) + (1 - share) * math.log(small)))
    as_tensor = torch.tensor
    model = Normal(as_tensor(mean(estimate), dtype=torch.float64), as_tensor(std, dtype=torch.float64))
    if t:
        true = Normal(as_tensor(mean(x0), dtype=torch.float64), as_tensor(math.sqrt(small), dtype=torch.float64))
        return float(kl_divergence(true, model)) / math.log(2)
    upper = 1.0 if x0 > 0.999 else float(model.cdf(as_tensor(x0 + 1 / 255, dtype=torch.float64)))
    lower = 0.0 if x0 < -0.999 else float(model.cdf(as_tensor(x0 - 1 / 255, dtype=torch.float64)))
    return -math.log2(max(upper - lower, 1e-12))


def test_the_bound_of_each_timestep() -> None:
    """Times drawn, and t = 0, 1 and 999 put in by hand."""
    from dtrain.objectives.ddpm import VariationalBound

    rng = np.random.default_rng(0)
    t = torch.tensor([0, 0, 0, 1, 2, 500, 999])
    x0 = torch.from_numpy(rng.choice(np.linspace(-1, 1, 256), (7, 2, 3, 3))).float()
    x0[0], x0[1] = 1.0, -1.0
    eps = torch.from_numpy(rng.standard_normal(x0.shape)).float()
    abar = torch.from_numpy(ABAR).float()[t][:, None, None, None]
    x = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
    output = eps + 0.2 * torch.from_numpy(rng.standard_normal(x0.shape)).float()
    v = torch.from_numpy(rng.uniform(-1.2, 1.2, x0.shape)).float()
    got = VariationalBound(DiscreteProcess("linear"), "noise", CPU)(x0, x, output, v, t)
    for i in range(7):
        numbers = (each[i].double().flatten().tolist() for each in (x0, x, output, v))
        terms = [bound_of(*values, int(t[i])) for values in zip(*numbers, strict=True)]
        assert float(got[i]) == pytest.approx(np.mean(terms), rel=2e-3, abs=1e-5), int(t[i])


def test_the_hybrid_loss_is_their_sum_and_the_bound_moves_the_variance_alone() -> None:
    rng = torch.Generator().manual_seed(1)
    x0 = torch.rand(8, 2, 3, 3, generator=rng) * 2 - 1
    output = torch.randn(8, 4, 3, 3, generator=rng)
    got, network = losses(x0, output)
    abar = torch.from_numpy(ABAR)[network.t][:, None, None, None]
    noise = (network.x.double() - abar.sqrt() * x0) / (1 - abar).sqrt()
    denoising = ((output[:, :2] - noise) ** 2).mean()
    numbers = [each.double().flatten(1).tolist() for each in (x0, network.x, output[:, :2], output[:, 2:])]
    terms = [
        np.mean([bound_of(*values, int(t)) for values in zip(*(part[i] for part in numbers), strict=True)])
        for i, t in enumerate(network.t)
    ]
    assert float(got["denoising"]) == pytest.approx(float(denoising), rel=1e-4)
    assert float(got["bound_bits"]) == pytest.approx(np.mean(terms), rel=2e-3)
    assert float(got["loss"].detach()) == pytest.approx(float(denoising) + np.mean(terms), rel=2e-3)
    got["loss"].backward()
    gradient = network.output.grad
    expected = 2 * (output[:, :2] - noise) / noise.numel()
    torch.testing.assert_close(gradient[:, :2].double(), expected, rtol=1e-3, atol=1e-6)
    assert gradient[:, 2:].abs().min() > 0


def test_code_lengths_of_all_levels_sum_to_one() -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    mass = torch.exp(-pixel_code_length(levels, torch.tensor(0.3), torch.tensor(math.log(0.05**2))))
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("learned", "channels"), [(True, 2), (False, 4)])
def test_a_network_of_other_channels_is_refused(learned: bool, channels: int) -> None:
    objective = objectives.build({"name": "ddpm", "learned_variance": learned}, DiscreteProcess("linear"), CPU)
    x0 = torch.zeros(2, 2, 3, 3)
    batch = Batch(x0, None, Draws(0, 0, 2, slice(0, 2), CPU), 0)
    with pytest.raises(ConfigError, match=f"the network has {channels} output channels, objective.learned_variance="):
        objective.loss(Fixed(torch.zeros(2, channels, 3, 3)), batch)
