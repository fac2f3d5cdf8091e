"""The inputs with which every candidate of a measurement is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.reading import Bundle
from drun.diffusion.noise import PhiloxNoise
from drun.errors import ConfigError
from drun.run.opening import Candidate

#: x (N, C, H, W) float32, t (N,) float32 and, where there are classes, y (N,) int64
Inputs = tuple[NDArray[Any], ...]


def example(bundle: Bundle, batch: int) -> Inputs:
    """x: (batch, C, H, W) pure noise, t: (batch,) a time, y: (batch,) class 0, if there are classes."""
    card = bundle.manifest.card
    x = PhiloxNoise(0, range(batch), card.data.shape)()
    # Where noise and data are equal: at the ends of time a backend may compute another graph.
    t = np.full(batch, card.process.time(1.0), np.float32)
    return (x, t) if card.classes is None else (x, t, np.zeros(batch, np.int64))


def check_batches(chosen: Sequence[Candidate], batches: Sequence[int]) -> None:
    """Raises ConfigError if there is a batch that none of the candidates takes, before anything is measured."""
    for batch in batches:
        if not any(_takes(candidate, batch) for candidate in chosen):
            check_batch(chosen[0], batch)


def check_batch(candidate: Candidate, batch: int) -> None:
    """Raises ConfigError if the artifact of a candidate has no such batch."""
    if candidate.artifact is not None and not _takes(candidate, batch):
        low, high = candidate.artifact.batch
        raise ConfigError(f"--batch got {batch}, {candidate.artifact.id} takes {low} to {high}")


def _takes(candidate: Candidate, batch: int) -> bool:
    return candidate.artifact is None or candidate.artifact.batch[0] <= batch <= candidate.artifact.batch[1]
