"""What the tests of samplers on flows share: one network in both conventions of time."""

from __future__ import annotations

import numpy as np
from walks import Array

N = 9
PATHS = ["linear", "cosine"]


def network(x: Array, t: float) -> Array:
    """Any function of x and REPA's time will do."""
    return np.tanh(0.7 * x + t) - 0.2 * x


def flipped(x: Array, t: float) -> Array:
    """The same velocity as a SiT would say it: its time runs from noise to data."""
    return -network(x, 1 - t)


def agree(got: Array, reference: Array) -> None:
    assert np.linalg.norm(got - reference) < 1e-10 * np.linalg.norm(reference)
