"""A network for any batch: the casts, the padding and the cutting that all backends share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.diffusion.arrays import Labels, State
from drun.errors import ConfigError

#: The arrays of one call, each (N, ...) and contiguous -> (N, ...) float32, which the next call may overwrite
NetworkCall = Callable[..., NDArray[np.float32]]


class Batched:
    """(x, time, labels) -> raw output, for any batch that fits in memory.

    Args:
        call: takes x (N, C, H, W) float32, t (N,) float32 and, where there are labels, y (N,) int64. It gets the same
            arrays again wherever it can, so that a runtime may keep them bound.
        shape: (C, H, W) of one x.
        batch: smallest and largest N. Smaller ones are padded, larger ones are cut.
    """

    def __init__(self, call: NetworkCall, shape: tuple[int, ...], batch: tuple[int, int]) -> None:
        self.call, self.shape, (self.smallest, self.largest) = call, shape, batch
        self.x, self.ones = np.empty((0, *self.shape), np.float32), np.empty(0, np.float32)
        self.t = np.empty(0, np.float32)
        self.as_it_is: State | None = None  # the last x that the network took without a copy
        self.y: Labels | None = None
        self.labels: Labels | None = None  # the labels that y was copied from

    def __call__(self, x: NDArray[Any], t: float, labels: NDArray[Any] | None) -> NDArray[np.float32]:
        """x: (N, C, H, W) float32 or float64, labels: (N,) int64 or None -> (N, C or 2 C, H, W) float32.

        The next call may overwrite it. Labels that are given again must not have changed. Raises ConfigError if x has
        another shape.
        """
        if x is self.as_it_is:  # true for all rows of a walk but the first
            return self._called(x, t, labels)
        if x.shape[1:] != self.shape:
            raise ConfigError(f"the network takes images of shape {self.shape}, got {x.shape[1:]}")
        if len(x) > self.largest:
            return self._cut(x, t, labels)
        if len(x) < self.smallest or x.dtype != np.float32 or not x.flags.c_contiguous:
            return self._padded(x, t, labels)
        self.as_it_is = x
        return self._called(x, t, labels)

    def _cut(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        parts = [slice(start, start + self.largest) for start in range(0, len(x), self.largest)]
        return np.concatenate(
            [self._padded(x[part], t, None if labels is None else labels[part]).copy() for part in parts]
        )

    def _padded(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        """One call through an array of our own, which is filled up to the smallest batch."""
        size = max(len(x), self.smallest)
        if len(self.x) != size:
            self.x = np.zeros((size, *self.shape), np.float32)
        self.x[: len(x)] = x
        return self._called(self.x, t, labels)[: len(x)]

    def _called(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        if len(self.t) != len(x):
            self.ones, self.t = np.ones(len(x), np.float32), np.empty(len(x), np.float32)
        # A product, because the loop multiplies, too: that code is still in the processor's caches, but not the code of
        # `fill`.
        np.multiply(self.ones, t, self.t)
        if labels is None:
            return self.call(x, self.t)
        if self.y is None or len(self.y) != len(x):
            self.y, self.labels = np.zeros(len(x), np.int64), None
        if labels is not self.labels:
            self.y[: len(labels)], self.labels = labels, labels
        return self.call(x, self.t, self.y)
