"""A network in a few lines, on the host and as an engine at addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbench.suites.kernel.processor import at


class Toy:
    """tanh of a fixed mixture of neighbours, channels, time and label: smooth, and different for all of them.

    Args:
        shape: (C, H, W). out_channels: C or 2 C. scale: of time, so that it is about 1.
    """

    is_capturable = True

    def __init__(self, shape: tuple[int, ...], num_classes: int = 0, out_channels: int = 0, scale: float = 1.0) -> None:
        self.shape, self.num_classes, self.out_channels = shape, num_classes, out_channels or shape[0]
        rng = np.random.default_rng(0)
        self.mix = rng.normal(0, 0.6, (self.out_channels, shape[0])).astype(np.float32)
        self.by_label = rng.normal(0, 0.5, (num_classes + 1, self.out_channels)).astype(np.float32)
        self.scale = np.float32(scale)
        self.batches: list[int] = []

    def predict(self, x: Any, t: Any, labels: Any = None) -> Any:
        """x: (N, C, H, W), t: a number or (N,), labels: (N,) or None -> (N, out_channels, H, W) float32."""
        x = x.astype(np.float32)
        time = np.broadcast_to(np.asarray(t, np.float32), len(x)) * self.scale
        out = np.einsum("oc,nchw->nohw", self.mix, x + 0.3 * np.roll(x, 1, -1))
        out += np.cos(time)[:, None, None, None]
        if labels is not None:
            out += self.by_label[labels][:, :, None, None]
        return np.tanh(out)

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """A call at these addresses."""
        *inputs, out = addresses
        x, t = at(inputs[0], (batch, *self.shape), np.float32), at(inputs[1], (batch,), np.float32)
        labels = at(inputs[2], (batch,), np.int64) if len(inputs) == 3 else None
        self.batches.append(batch)

        def call() -> None:
            at(out, (batch, self.out_channels, *self.shape[1:]), np.float32)[...] = self.predict(x, t, labels)

        return call
