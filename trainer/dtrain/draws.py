"""The random numbers of training are a function of (seed, step, purpose), whatever the number of processes.

Each process draws the numbers of the whole batch and keeps those of its own images, so one process and many train on
the same noise.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: The purposes for which a step draws random numbers. Each has its own stream, or the flips would depend on the noise.
AUGMENTATION, NOISE, LATENT, LABEL_DROPOUT, TIME = range(5)


def generator(seed: int, step: int, purpose: int, device: torch.device | str) -> torch.Generator:
    """The generator of one training step for one purpose."""
    mixed = int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device).manual_seed(mixed)


class Draws:
    """The draws of one step for the images `own` of a batch of `total`.

    Args:
        own: a slice of 0..total.
        device: where the noise is drawn; a device's generator gives its own numbers.
    """

    def __init__(self, seed: int, step: int, total: int, own: slice, device: torch.device) -> None:
        self.seed, self.step, self.total, self.own, self.device = seed, step, total, own, device
        self.noise = generator(seed, step, NOISE, device)
        self.flips = generator(seed, step, AUGMENTATION, "cpu")

    def integers(self, high: int, *, per_image: bool = True) -> Tensor:
        """(N,) int64 in 0..high-1; one number for all images unless `per_image`."""
        count = self.total if per_image else 1
        drawn = torch.randint(high, (count,), generator=self.noise, device=self.device)
        return drawn.expand(self.total)[self.own]

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) float32, N(0, 1)."""
        return torch.randn(self.total, *shape, generator=self.noise, device=self.device)[self.own]

    def latent_normal(self, *shape: int) -> Tensor:
        """Normal numbers of a separate stream, for the posterior of latents."""
        stream = generator(self.seed, self.step, LATENT, self.device)
        return torch.randn(self.total, *shape, generator=stream, device=self.device)[self.own]

    def times(self, *, normal: bool = False) -> NDArray[np.float64]:
        """(N,) uniform in [0, 1), or N(0, 1), on the CPU, where float64 formulas turn them into model times."""
        draw = torch.randn if normal else torch.rand
        stream = generator(self.seed, self.step, TIME, "cpu")
        return draw(self.total, generator=stream, dtype=torch.float64)[self.own].numpy()

    def toss(self) -> Tensor:
        """(N,) bool on the CPU, true with probability 1/2; each call is a new one."""
        return torch.rand(self.total, generator=self.flips)[self.own] < 0.5

    def dropped(self, share: float) -> Tensor:
        """(N,) bool on the CPU: the labels to drop, each with probability `share`."""
        stream = generator(self.seed, self.step, LABEL_DROPOUT, "cpu")
        return torch.rand(self.total, generator=stream)[self.own] < share
