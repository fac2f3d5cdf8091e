"""The network as the loop sees it: checks, casts and batching, once for all backends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Array
from drun.errors import ConfigError


class BatchedDenoiser:
    """(x, time, labels) -> raw output, for any batch that fits in memory.

    Args:
        backend: an opened backend.
        bundle: says which shapes and classes the network knows.
        batch: smallest and largest batch of the artifact. Smaller ones are padded, larger ones are cut.
    """

    def __init__(self, backend: Backend, bundle: Bundle, batch: tuple[int, int] = (1, 2**31)) -> None:
        self.backend, self.shape, self.smallest, self.largest = backend, bundle.manifest.data.shape, *batch
        self.x, self.t = np.empty((0, *self.shape), np.float32), np.empty(0, np.float32)
        self.y: NDArray[np.int64] | None = None

    def __call__(self, x: Array, t: float, labels: NDArray[np.int64] | None) -> Array:
        """x: (N, C, H, W) float32 or float64, labels: (N,) int64 or None -> raw output, (N, C or 2 C, H, W) float32."""
        if tuple(x.shape[1:]) != self.shape:
            raise ConfigError(f"the network takes images of shape {self.shape}, got {tuple(x.shape[1:])}")
        if len(x) <= self.largest:
            return self._call(x, t, labels)
        cuts = range(0, len(x), self.largest)
        parts = [slice(start, start + self.largest) for start in cuts]
        return np.concatenate(
            [self._call(x[part], t, None if labels is None else labels[part]).copy() for part in parts]
        )

    def _call(self, x: Array, t: float, labels: NDArray[np.int64] | None) -> Array:
        with self.backend.lock:
            return self._locked_call(x, t, labels)

    def _locked_call(self, x: Array, t: float, labels: NDArray[np.int64] | None) -> Array:
        size = max(len(x), self.smallest)
        if len(self.x) != size:
            self.x = np.zeros((size, *self.shape), np.float32)
            self.t = np.empty(size, np.float32)
            self.y = None if labels is None else np.zeros(size, np.int64)
        self.x[: len(x)], self.t[:] = x, t
        if self.y is not None and labels is not None:
            self.y[: len(x)] = labels
        return self.backend.predict(self.x, self.t, self.y)[: len(x)]
