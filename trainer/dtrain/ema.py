"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from dtrain.config import Ema as Law

#: The warm-up law copies the weights up to here, steps.
COPY_STEPS = 100


def decay_at(law: Law, step: int) -> float | None:
    """The share of the old average that is kept at training step 1, 2, ...; None: no update at this step.

    `constant`: always `decay`. `warmup`: min(1 - (1 + e)^(-2/3), decay) with e = step - 101, and 0 up to there
    (ema-pytorch 0.3, inverse gamma 1, power 2/3), as the aerial-imagery article trains.
    """
    if step % law.every:
        return None
    if law.law == "constant":
        return law.decay
    elapsed = step - COPY_STEPS - 1
    return 0.0 if elapsed <= 0 else min(1 - (1 + elapsed) ** (-2 / 3), law.decay)


class Ema:
    """A copy of a network that follows it. Make it before `torch.compile`, so that the keys stay the same."""

    def __init__(self, network: nn.Module, law: Law) -> None:
        self.law = law
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        tensors = [net.state_dict(keep_vars=True).values() for net in (self.network, network)]
        pairs = list(zip(*tensors, strict=True))
        self.averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self.copied = [pair for pair in pairs if not pair[0].is_floating_point()]  # counters

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the network after training step `step` (1 is the first)."""
        decay = decay_at(self.law, step)
        if decay is None:
            return
        average, online = (list(side) for side in zip(*self.averaged, strict=True))
        torch._foreach_lerp_(average, online, 1 - decay)
        for counter, current in self.copied:
            counter.copy_(current)
