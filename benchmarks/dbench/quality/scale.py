"""A scale from real images to noise, on which a Fréchet distance has a meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbench.quality.frechet import frechet_distance
from drun.console import Report, silent

Features = NDArray[np.float64]
Indices = NDArray[np.int64]

SEED = 0


@dataclass(frozen=True)
class Distances:
    """Fréchet distances of three equally large sets to the same real images: one of each for every split."""

    samples: Features  # (splits,)
    real: Features  # (splits,) of other real images: the floor
    noise: Features  # (splits,): the ceiling

    @property
    def position(self) -> Features:
        """(splits,) how far the samples lie on the way from real images to noise, percent."""
        percent: Features = 100 * (self.samples - self.real) / (self.noise - self.real)
        return percent


def set_size(num_samples: int, num_real: int) -> int:
    """How many images of each kind are compared with the remaining real images: at most half of the real ones."""
    return min(num_samples, num_real // 2)


def measure(samples: Features, real: Features, noise: Features, splits: int, report: Report = silent) -> Distances:
    """Set real images apart and compare them, as many samples and as much noise with the rest, `splits` times.

    The Fréchet distance of finite sets is too large by an amount that depends on their sizes (Chong & Forsyth 2020),
    so the sizes are equal on all three sides, and the floor holds for any number of samples.

    Args:
        samples: (N, D), real: (M, D), noise: (S, D) with S = set_size(N, M), at least 2.
    """
    size, rows = set_size(len(samples), len(real)), []
    pairs = zip(partitions(len(real), size, splits), partitions(len(samples), size, splits), strict=True)
    for done, ((apart, rest), (drawn, _)) in enumerate(pairs):
        report("comparing", done, splits)
        rest_of_real = real[rest]
        rows.append([frechet_distance(each, rest_of_real) for each in (samples[drawn], real[apart], noise)])
    report("comparing", splits, splits)
    return Distances(*np.array(rows).T)


def between_sets(real: Features, size: int, splits: int) -> list[float]:
    """Fréchet distances of `size` random real images to the others: what sets of real images differ by."""
    return [frechet_distance(real[apart], real[rest]) for apart, rest in partitions(len(real), size, splits)]


def partitions(num: int, size: int, splits: int) -> Iterator[tuple[Indices, Indices]]:
    """Random choices of `size` of 0..num - 1, each with the rest; the same every time."""
    generator = np.random.default_rng(SEED)
    for _ in range(splits):
        order = generator.permutation(num)
        yield order[:size], order[size:]
