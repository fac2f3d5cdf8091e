"""Eager PyTorch walks a table as the formulas say, on labels, guidance and noise as a runtime gets them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from drun.bundle.card import Card, Classes, StateSpace
from drun.diffusion.loop import Observer
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.flow import FlowProcess
from drun.errors import NotFiniteError
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain import models
from dtrain.eager import EagerNetwork
from dtrain.models import Network

SHAPE = (4, 8, 8)
SIT = {"name": "SiT", "input_size": 8, "size": {"hidden_size": 32, "depth": 2, "num_heads": 2}, "num_classes": 10}
UNET = {"name": "OneResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 4}
STEPS = 3


def awake(config: dict[str, Any]) -> Network:
    """A network whose weights are nowhere their initial ones, as many of those are zero."""
    torch.manual_seed(0)
    network = models.build(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def sampling(network: Any, classes: Classes | None, cfg: float = 1.0) -> Sampling:
    """Of a flow whose noise is at t = 1, of which two channels are guided."""
    card = Card(FlowProcess(noise_time=1), "velocity", StateSpace.of(SHAPE), classes, guided_channels=2)
    return Sampling(card, EagerNetwork(network), SamplingSettings("euler", {}, STEPS, seed=7, cfg=cfg))


@torch.no_grad()
def euler(predict: Any) -> list[np.ndarray]:
    """x <- x - v dt from t = 1 to 0: the samples 0 and 1 before, between and after the steps."""
    x = torch.from_numpy(PhiloxNoise(7, [0, 1], SHAPE)())
    states = [x.numpy()]
    for t, s in pairwise(torch.linspace(1, 0, STEPS + 1).tolist()):
        x = x - (t - s) * predict(x, torch.full((2,), t))
        states.append(x.numpy())
    return states


@pytest.mark.parametrize("cfg", [1.0, 1.8])
def test_a_walk_is_the_formula_guided_on_the_channels_of_the_card(cfg: float) -> None:
    network = awake(SIT)

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        conditional, free = network(x, t, torch.tensor([0, 1])), network(x, t, torch.tensor([10, 10]))
        guided = free + cfg * (conditional - free)
        return torch.cat((guided[:, :2], conditional[:, 2:]), dim=1)

    expected, seen = euler(predict), []
    drawn = sampling(network, network.classes, cfg).draw(
        [0, 1], Observer(rows=range(-1, STEPS), show=lambda row, x: seen.append((row, x.copy())))
    )
    assert [row for row, _ in seen] == [-1, 0, 1, 2]
    for (_, state), state_by_hand in zip(seen, expected, strict=True):
        np.testing.assert_allclose(state, state_by_hand, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(drawn, seen[-1][1])
    assert drawn.dtype == np.float32
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1


def test_a_network_without_classes_is_called_without_labels() -> None:
    network = awake(UNET)
    expected = euler(network)
    np.testing.assert_allclose(sampling(network, None).draw([0, 1]), expected[-1], rtol=1e-4, atol=1e-5)


def test_no_gradient_is_kept_and_the_device_is_that_of_the_weights() -> None:
    network = EagerNetwork(awake(SIT))
    assert network.device == torch.device("cpu")
    out = network.predict(network.put(np.zeros((1, *SHAPE), np.float32)), 0.5, torch.tensor([0]))
    assert (out.shape, out.requires_grad) == ((1, *SHAPE), False)
    assert EagerNetwork(torch.nn.Identity()).device == torch.device("cpu")
    assert next(EagerNetwork(torch.nn.Linear(1, 1), torch.device("meta")).network.parameters()).is_meta


def test_a_network_that_diverged_is_said() -> None:
    network = awake(UNET)
    torch.nn.init.constant_(network.final_conv.bias, float("nan"))
    with pytest.raises(NotFiniteError, match="the images are not finite between steps 1 and 3 of 3"):
        sampling(network, None).draw([0])
