"""What the tests of samplers on flows share: one network in both conventions of time, and the walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from drun.diffusion.loop import sample
from drun.diffusion.table import StepTable

Array = np.ndarray
Network = Callable[[Array, float], Array]
SHAPE = (2, 4, 4, 4)
N = 9
PATHS = ["linear", "cosine"]


def network(x: Array, t: float) -> Array:
    """Any function of x and REPA's time will do."""
    return np.tanh(0.7 * x + t) - 0.2 * x


def flipped(x: Array, t: float) -> Array:
    """The same velocity as a SiT would say it: its time runs from noise to data."""
    return -network(x, 1 - t)


def noises(count: int) -> tuple[Array, list[Array]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(SHAPE), list(rng.standard_normal((count, *SHAPE)))


def walk(table: StepTable, x: Array, z: list[Array], denoise: Network) -> Array:
    draws: Iterator[Array] = iter(z)
    final = sample(lambda x, t, w: denoise(x, t), x.copy(), table, lambda: next(draws))
    assert next(draws, None) is None
    return final


def agree(got: Array, reference: Array) -> None:
    assert np.linalg.norm(got - reference) < 1e-10 * np.linalg.norm(reference)
