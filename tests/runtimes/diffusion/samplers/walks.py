"""What the tests of all samplers share: noise, and the walk on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from drun.diffusion.loop import sample
from drun.diffusion.table import StepTable

Array = np.ndarray
Network = Callable[[Array, float], Array]
SHAPE = (2, 3, 4, 4)


def noises(count: int) -> tuple[Array, list[Array]]:
    """The initial x and `count` draws of z; fewer are the first of more."""
    rng = np.random.default_rng(3)
    return rng.standard_normal(SHAPE), list(rng.standard_normal((count, *SHAPE)))


def walk(table: StepTable, x: Array, z: list[Array], denoise: Network) -> Array:
    """The final state, for which all of z was drawn."""
    draws: Iterator[Array] = iter(z)
    final = sample(lambda x, t, w: denoise(x, t), x.copy(), table, lambda: next(draws))
    assert next(draws, None) is None
    return final
