"""The sampling loops of the papers' own code, in PyTorch and from their formulas: what `drun` is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from drun.bundle.card import Card
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError

#: (x, t) -> the network's output for x at time t, guided or not
Denoise = Callable[[Tensor, float], Tensor]
#: the next z ~ N(0, I), shaped as x
Draw = Callable[[], Tensor]
#: (denoise, x, times from noise to data, z) -> the final states
Loop = Callable[[Denoise, Tensor, Sequence[float], Draw], Tensor]


@dataclass(frozen=True)
class PaperLoop:
    """A loop, and the sampler of `drun` that computes the same."""

    sampler: str
    options: dict[str, object]
    run: Loop


def loop_of(card: Card) -> PaperLoop:
    """The loop of the code that published such a model; those of flows keep states in float64.

    Raises:
        ConfigError: a model that neither loop takes.
    """
    process = card.process
    if card.variance is not None:
        raise ConfigError("the papers' loops take networks without a learned variance, got one with it")
    if isinstance(process, FlowProcess) and card.prediction == "velocity" and process == FlowProcess("linear"):
        return PaperLoop("euler_maruyama", {"form": "repa"}, euler_maruyama)
    if isinstance(process, DiscreteProcess) and card.prediction == "noise":

        def run(denoise: Denoise, x: Tensor, times: Sequence[float], draw: Draw) -> Tensor:
            return ancestral(denoise, x, times, [float(process.alpha(t)) ** 2 for t in times], draw)

        return PaperLoop("ddpm", {"variance": "fixed_small", "clip_x0": False}, run)
    kind = process.to_dict()["kind"]
    raise ConfigError(
        "the papers' loops take velocities of straight flows in REPA's time, and noise of chains, "
        f"got {card.prediction} of a {kind}"
    )


def euler_maruyama(denoise: Denoise, x: Tensor, times: Sequence[float], draw: Draw) -> Tensor:
    """The reverse SDE of REPA (Yu et al. 2025) in float64: dx = (v - t s) dt + sqrt(2 t) dB.

    On the straight path the score is s = -((1 - t) v + x) / t (Ma et al. 2024, eq. 9). The last step has no noise.

    Args:
        times: of the steps; from the last one it goes to the data.
    """
    x = x.double()
    for t, following in pairwise([*times, 0.0]):
        velocity = denoise(x.float(), t).double()
        score = -((1 - t) * velocity + x) / t
        dt = following - t
        x = x + (velocity - t * score) * dt
        if following > 0:
            x = x + (2 * t * -dt) ** 0.5 * draw().double()
    return x


def ancestral(denoise: Denoise, x: Tensor, times: Sequence[float], alphas_bar: Sequence[float], draw: Draw) -> Tensor:
    """Algorithm 2 of Ho et al. 2020 with the posterior's variance (eq. 7), unclipped, in float32.

    Args:
        alphas_bar: for each time the squared factor of the image.
    """
    for t, bar, bar_previous in zip(times, alphas_bar, [*alphas_bar[1:], 1.0], strict=True):
        alpha = bar / bar_previous
        noise = denoise(x, t)
        x = (x - (1 - alpha) / (1 - bar) ** 0.5 * noise) / alpha**0.5
        if bar_previous < 1:
            x = x + ((1 - alpha) * (1 - bar_previous) / (1 - bar)) ** 0.5 * draw()
    return x


def guided(
    network: Callable[..., Tensor],
    labels: Tensor | None,
    null_label: int,
    channels: int | None,
    weights: Mapping[float, float],
) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022) as the papers' code does it.

    Where the weight is not 1 it is one call on a doubled batch, elsewhere one call on the batch.

    Args:
        network: (x, t, labels) -> output.
        labels: (N,), or None for a model without classes.
        channels: how many leading channels are guided; None: all.
        weights: time -> guidance weight.
    """

    def call(x: Tensor, t: float) -> Tensor:
        if labels is None:
            return network(x, torch.full((len(x),), t, device=x.device))
        if weights[t] == 1:
            return network(x, torch.full((len(x),), t, device=x.device), labels)
        both = torch.cat([labels, torch.full_like(labels, null_label)])
        out = network(torch.cat([x, x]), torch.full((2 * len(x),), t, device=x.device), both)
        conditional, unconditional = out.chunk(2)
        mixed = unconditional + weights[t] * (conditional - unconditional)
        return mixed if channels is None else torch.cat([mixed[:, :channels], conditional[:, channels:]], dim=1)

    return call
