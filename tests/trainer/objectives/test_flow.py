"""Flow matching against its formulas: paths, predictions, laws of time, contrast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
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

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.x, self.t, self.y = x, t, y
        return self.output


@pytest.fixture
def x0() -> Tensor:
    return torch.rand(64, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def run(process: FlowProcess, x0: Tensor, labels: Tensor | None = None, **options: Any) -> tuple[Any, Recorder, Tensor]:
    """The losses, the network's inputs, and the noise recovered from x_t, all in REPA's depth."""
    objective = objectives.build({"name": "flow"} | options, process, CPU)
    output = torch.linspace(-1, 1, x0.numel()).reshape(x0.shape)
    network = Recorder(output)
    draws = Draws(0, 3, len(x0), slice(0, len(x0)), CPU)
    losses = objective.loss(network, Batch(x0, labels, draws, 3))
    t = network.t.double()[:, None, None, None]
    alpha, sigma = (torch.from_numpy(of(t.numpy())) for of in (process.alpha, process.sigma))
    return losses, network, (network.x.double() - alpha * x0) / sigma


@pytest.mark.parametrize("noise_time", [0, 1])
@pytest.mark.parametrize("path", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["velocity", "noise", "x0", "score"])
def test_loss_against_its_formula(x0: Tensor, path: str, noise_time: int, prediction: str) -> None:
    process = FlowProcess(path, noise_time, margin=1e-3)
    losses, network, noise = run(process, x0, prediction=prediction)
    assert noise.mean().abs() < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    depth = (network.t if noise_time else 1 - network.t).double()[:, None, None, None]
    angle = math.pi / 2 * depth
    sigma = depth if path == "linear" else angle.sin()
    slopes = (-1, 1) if path == "linear" else (-math.pi / 2 * angle.sin(), math.pi / 2 * angle.cos())
    velocity = slopes[0] * x0 + slopes[1] * noise
    target = {
        "velocity": velocity if noise_time else -velocity, "noise": noise, "x0": x0, "score": -noise / sigma,
    }[prediction]  # fmt: skip
    weight = sigma**2 if prediction == "score" else 1.0
    expected = (weight * (network.output - target) ** 2).mean()
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_vp_is_trained_up_to_its_noise() -> None:
    """As in SiT, only the data have a margin."""
    _, network, _ = run(FlowProcess("vp", 0, margin=0.1), torch.zeros(4000, 1, 1, 1))
    assert 0 <= network.t.min() < 0.002
    assert 0.898 < network.t.max() <= 0.9


@pytest.mark.parametrize("noise_time", [0, 1])
def test_uniform_times_fill_the_interval_but_for_the_margins(noise_time: int) -> None:
    _, network, _ = run(FlowProcess("linear", noise_time, margin=0.1), torch.zeros(4000, 1, 1, 1))
    t = network.t.numpy()
    assert 0.1 <= t.min() < 0.102
    assert 0.898 < t.max() <= 0.9
    assert t.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("path", "depth_of"), [("linear", lambda s: s / (1 + s)), ("cosine", lambda s: 2 / math.pi * np.arctan(s))]
)
def test_logit_normal_times(path: str, depth_of: Any) -> None:
    """sigma = e^n, n ~ N(0, 1): the quantiles of the depth are its images (facts 2.1)."""
    _, network, _ = run(FlowProcess(path), torch.zeros(20000, 1, 1, 1), times="logit_normal")
    quantiles = np.quantile(network.t.numpy(), [0.1587, 0.5, 0.8413])
    np.testing.assert_allclose(quantiles, depth_of(np.exp([-1.0, 0.0, 1.0])), atol=0.01)


def test_time_shift_moves_towards_the_noise() -> None:
    x0 = torch.zeros(64, 1, 1, 1)
    plain, shifted = (run(FlowProcess(), x0, time_shift=s)[1].t.double() for s in (1.0, 4.0))
    torch.testing.assert_close(shifted, 4 * plain / (1 + 3 * plain), atol=1e-6, rtol=0)
    toward = run(FlowProcess(noise_time=0), x0, time_shift=4.0)[1].t.double()
    torch.testing.assert_close(toward, 1 - shifted, atol=1e-6, rtol=0)


def test_contrast_repels_from_the_target_of_the_next_image(x0: Tensor) -> None:
    losses, network, noise = run(FlowProcess(), x0, contrastive=0.05)
    target = noise - x0
    near = ((network.output - target) ** 2).mean()
    far = ((network.output - torch.cat([target[-1:], target[:-1]])) ** 2).mean()
    assert float(losses["loss"]) == pytest.approx(float(near - 0.05 * far), rel=1e-4)
    assert float(losses["denoising"]) == pytest.approx(float(near), rel=1e-4)


def test_labels_reach_the_network(x0: Tensor) -> None:
    labels = torch.arange(64)
    assert run(FlowProcess(), x0, labels)[1].y is labels


@pytest.mark.parametrize(
    ("process", "options", "message"),
    [
        (DiscreteProcess("linear"), {}, "objective flow needs a process of kind flow: use objective ddpm"),
        (FlowProcess(), {"prediction": "noise"}, "noise on the path linear is .* undefined .*: set process.margin"),
        (FlowProcess("vp"), {}, "velocity on the path vp is unbounded .*: set process.margin=0.001"),
        (FlowProcess(), {"times": "lognormal"}, "objective.times got 'lognormal', expected one of uniform, "),
        (FlowProcess(), {"time_shift": 0.0}, "objective.time_shift got 0.0, expected above 0; 1 is off"),
    ],
)
def test_wrong_options_are_named(process: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.build({"name": "flow"} | options, process, CPU)


def test_ddpm_refuses_a_flow() -> None:
    with pytest.raises(ConfigError, match="objective ddpm needs a process of kind discrete: use objective flow"):
        objectives.build({"name": "ddpm"}, FlowProcess(), CPU)


def test_a_variance_is_not_compared_with_an_image() -> None:
    """Two channels and one would be broadcast, and the network would learn something else."""
    x0 = torch.zeros(4, 1, 2, 2)
    objective = objectives.build({"name": "flow"}, FlowProcess("linear", 1), CPU)
    draws = Draws(0, 0, 4, slice(0, 4), CPU)
    with pytest.raises(ConfigError, match="has 2 output channels, objective flow needs 1: choose a model without"):
        objective.loss(Recorder(torch.zeros(4, 2, 2, 2)), Batch(x0, None, draws, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "flow", "speed": 3}, "objective 'flow' has no option 'speed', expected one of prediction, "),
        (
            {"name": "repa", "base": {"name": "flow"}},
            "objective 'repa' lacks objective.teachers: usually teachers = .*digits-teacher.*, as in recipe ",
        ),
    ],
)
def test_options_that_are_unknown_or_lack(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.build(options, FlowProcess("linear", 1), CPU)
