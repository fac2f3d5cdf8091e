"""A network of limited batch as the loop sees it: casts, padding and cutting, once for all backends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.arrays import Labels, State
from drun.errors import ConfigError

#: The arrays of one call, each (N, ...) and contiguous -> (N, ...) float32, which the next call may overwrite
NetworkCall = Callable[..., NDArray[np.float32]]


class Batched:
    """(x, time, labels) -> raw output, for any batch that fits in memory.

    Args:
        call: of x (N, C, H, W) float32, t (N,) float32 and, where there are labels, y (N,) int64. It gets the same
            arrays again wherever it can, so that a runtime may keep them bound.
        shape: (C, H, W) of one x.
        batch: smallest and largest N. Smaller ones are padded, larger ones are cut.
    """

    def __init__(self, call: NetworkCall, shape: tuple[int, ...], batch: tuple[int, int]) -> None:
        self.call, self.shape, (self.smallest, self.largest) = call, shape, batch
        self.x, self.t = np.empty((0, *self.shape), np.float32), np.empty(0, np.float32)
        self.y: Labels | None = None

    def __call__(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        """x: (N, C, H, W) float32 or float64, labels: (N,) int64 or None -> (N, C or 2 C, H, W) float32.

        The next call may overwrite it. Raises ConfigError if x has another shape.
        """
        if x.shape[1:] != self.shape:
            raise ConfigError(f"the network takes images of shape {self.shape}, got {x.shape[1:]}")
        if len(x) <= self.largest:
            return self._padded(x, t, labels)
        parts = [slice(start, start + self.largest) for start in range(0, len(x), self.largest)]
        return np.concatenate(
            [self._padded(x[part], t, None if labels is None else labels[part]).copy() for part in parts]
        )

    def _padded(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        size = max(len(x), self.smallest)
        if len(self.x) != size:
            self.x = np.zeros((size, *self.shape), np.float32)
            self.t = np.empty(size, np.float32)
            self.y = None if labels is None else np.zeros(size, np.int64)
        self.x[: len(x)] = x
        self.t.fill(t)
        if labels is None or self.y is None:
            return self.call(self.x, self.t)[: len(x)]
        self.y[: len(x)] = labels
        return self.call(self.x, self.t, self.y)[: len(x)]
