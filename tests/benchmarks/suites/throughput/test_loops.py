"""The papers' loops compute what drun's samplers compute: two independent readings of the same formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbench.suites.throughput.loops import loop_of
from dbench.suites.throughput.papers import Papers
from drun.bundle.card import Card, Classes, StateSpace
from drun.diffusion.loop import walk
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings

SPACE = StateSpace("latent", (3, 4, 5))
CLASSES = Classes(5, 5)
CHAIN, FLOW = DiscreteProcess("linear"), FlowProcess("linear")


def network(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Smooth, and different for all of its inputs."""
    scale = t.reshape(-1, 1, 1, 1) / max(1.0, float(t.max()) / 3)
    out = torch.tanh(0.4 * x + 0.3 * x.roll(1, 1) + 0.2 * x.roll(1, -1)) + 0.3 * torch.cos(scale)
    return out if labels is None else out + 0.2 * torch.sin(labels.reshape(-1, 1, 1, 1) + x)


class OnHost:
    """The project's own loop around the same network."""

    def walk(self, *given: Any) -> Any:
        return walk(lambda x, t, labels: self._call(x, t, labels), *given)

    def _call(self, x: Any, t: float, labels: Any) -> Any:
        times = torch.full((len(x),), t)
        given = torch.from_numpy(np.ascontiguousarray(x, np.float32))
        return network(given, times, None if labels is None else torch.from_numpy(labels)).numpy()


@pytest.mark.parametrize("steps", [6, 250])
@pytest.mark.parametrize(
    ("process", "classes", "guided_channels", "cfg", "interval"),
    [
        (FLOW, None, None, 1.0, None),
        (FLOW, CLASSES, None, 1.8, (0.0, 0.7)),
        (FLOW, CLASSES, 2, 1.5, None),
        (CHAIN, None, None, 1.0, None),
        (CHAIN, CLASSES, None, 3.0, None),
    ],
)
def test_a_loop_draws_the_images_of_its_sampler(
    steps: int, process: Any, classes: Any, guided_channels: Any, cfg: float, interval: Any
) -> None:
    card = Card(process, "velocity" if process is FLOW else "noise", SPACE, classes, guided_channels=guided_channels)
    loop = loop_of(card)
    settings = SamplingSettings(loop.sampler, loop.options, steps, seed=3, cfg=cfg, interval=interval)
    papers = Papers(loop, network, torch.device("cpu"), "fp32", own_noise=False)
    expected = Sampling(card, OnHost(), settings).draw([4, 0, 9])
    got = Sampling(card, papers, settings).draw([4, 0, 9])
    assert got.dtype == np.float32
    assert np.linalg.norm(got - expected) <= 2e-5 * np.linalg.norm(expected)
    assert not np.allclose(got, Sampling(card, OnHost(), SamplingSettings("euler", {}, steps, 3)).draw([4, 0, 9]))


def test_its_own_noise_is_drawn_on_the_device() -> None:
    card = Card(FLOW, "velocity", SPACE)
    loop = loop_of(card)
    settings = SamplingSettings(loop.sampler, loop.options, 3)
    own = Sampling(card, Papers(loop, network, torch.device("cpu"), "fp32"), settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = own.draw([0])
        torch.manual_seed(0)
        again, other = own.draw([0]), own.draw([0])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("card", "got"),
    [
        (Card(FlowProcess("cosine"), "velocity", SPACE), "velocity of a flow"),
        (Card(FlowProcess("linear", 0), "velocity", SPACE), "velocity of a flow"),
        (Card(CHAIN, "velocity", SPACE), "velocity of a"),
        (Card(CHAIN, "noise", SPACE, variance="learned_range"), "one with it"),
    ],
)
def test_other_models_have_no_such_loop(card: Card, got: str) -> None:
    with pytest.raises(ConfigError, match=f"the papers' loops take .*, got {got}"):
        loop_of(card)
