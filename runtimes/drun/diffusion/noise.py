"""Noise that belongs to an image, not to a batch: sample i of seed s has its own counter-based stream.

The stream is the raw 64-bit words of Philox4x64-10 with key (s, i) and a counter that starts at 1 (Salmon et al.
2011), made normal by Box-Muller in float64 and cast to float32: the first draw is the initial x, then one z for
each noisy row. So an image does not depend on batch size, shard, backend or machine, and the same few lines can
be written in any language.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drun.errors import ConfigError

Noise = NDArray[np.float32]

#: Draws of small images are made several at once, up to this many words, because a call of numpy costs more than its
#: work.
BLOCK_WORDS = 1 << 13


class NoiseSource(Protocol):
    """The noise of one batch. Each call gives the next (N, C, H, W) float32; the first one is the initial x.

    A draw is an array of its own, which no later call overwrites.
    """

    def __call__(self) -> Noise: ...


class PhiloxNoise:
    """The streams of the samples `indices` of a seed.

    Args:
        seed: 0 <= seed < 2^64.
        indices: sample numbers of this batch.
        shape: (C, H, W) of one image.

    A device that makes the noise itself needs `seed`, `indices` and `num_drawn`, the number of its next draw.

    Raises:
        ConfigError: a seed outside its range.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> None:
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed got {seed}, expected a whole number from 0 to 2^64 - 1")
        self.seed, self.indices = seed, tuple(indices)
        self.num_drawn = 0
        self.shape = (len(indices), *shape)
        self.generators = [np.random.Philox(key=np.array([seed, i], np.uint64)) for i in indices]
        self.size = math.prod(shape)
        num_words = self.size + self.size % 2
        num_draws = max(1, BLOCK_WORDS // max(1, len(indices) * num_words))
        self.words = np.empty((len(indices), num_draws, num_words), np.uint64)
        self.drawn: Iterator[Noise] = iter(())

    def __call__(self) -> Noise:
        draw = next(self.drawn, None)
        if draw is None:
            self.drawn = iter(self._draw_ahead())
            draw = next(self.drawn)
        self.num_drawn += 1
        return draw

    def _draw_ahead(self) -> Noise:
        """The next few draws of every stream: (draws, N, C, H, W), each in one piece."""
        for row, generator in zip(self.words, self.generators, strict=True):
            row[:] = generator.random_raw(row.size).reshape(row.shape)
        draws = box_muller(self.words).swapaxes(0, 1)[..., : self.size]
        return np.ascontiguousarray(draws).reshape(-1, *self.shape)


def box_muller(words: NDArray[np.uint64]) -> Noise:
    """Pairs of words to pairs of normals (Box & Muller 1958). words: (..., 2k) uint64 -> (..., 2k) float32.

    u = ((w >> 11) + 1/2) / 2^53 is never 0 (the largest rounds to 1); each pair gives sqrt(-2 ln u0) cos(2 pi u1)
    and the same with sin, in this order.
    """
    uniform = (words >> np.uint64(11)).astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-53
    radius = np.log(uniform[..., 0::2])
    radius *= -2
    np.sqrt(radius, out=radius)
    angle = uniform[..., 1::2] * (2 * np.pi)
    normal = np.empty(words.shape, np.float32)
    np.multiply(radius, np.cos(angle), out=normal[..., 0::2], casting="same_kind")
    np.multiply(radius, np.sin(angle), out=normal[..., 1::2], casting="same_kind")
    return normal
