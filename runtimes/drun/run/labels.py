"""Which class each sample shows. Like its noise, the label of sample i depends on nothing but (seed, i)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drun.bundle.manifest import Classes
from drun.errors import ConfigError

Labels = NDArray[np.int64]


def choose(
    spec: str | None, indices: Sequence[int], classes: Classes | None, seed: int, guided: bool = False
) -> Labels | None:
    """The labels of the samples `indices`: (N,) int64, or None for an unconditional model.

    Args:
        spec: `balanced` (the default), `random`, or numbers such as `207,360`, repeated in turn.

    Raises:
        ConfigError: labels or guidance for a model that cannot take them, or a label that is no class of it.
    """
    if classes is None:
        if spec is not None or guided:
            raise ConfigError("this model is unconditional: leave out --labels and --cfg")
        return None
    if guided and classes.null_label is None:
        raise ConfigError("this model was trained without dropping labels, so it cannot be guided: leave out --cfg")
    if spec in (None, "balanced"):
        return np.array([i % classes.count for i in indices], np.int64)
    if spec == "random":
        return np.array([_random_label(seed, i, classes.count) for i in indices], np.int64)
    try:
        given = [int(label) for label in str(spec).split(",")]
    except ValueError:
        raise ConfigError(f"--labels got '{spec}', expected balanced, random or numbers such as 1,7") from None
    if not all(0 <= label < classes.count for label in given):
        raise ConfigError(f"--labels got '{spec}', expected classes from 0 to {classes.count - 1}")
    return np.array([given[i % len(given)] for i in indices], np.int64)


def _random_label(seed: int, index: int, count: int) -> int:
    # The last 64-bit word of the counter keeps this draw apart from the noise of `drun.diffusion.noise`.
    words = np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, 1]).random_raw(1)
    return int(words[0] % np.uint64(count))
