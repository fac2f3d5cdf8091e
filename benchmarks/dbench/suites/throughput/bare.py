"""The network calls of a walk on a device and nothing else, to tell what whole steps add to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from drun.device.walk import DeviceWalk
from drun.diffusion.arrays import Labels, State

#: A runtime allocates in its first call, and one that replays its own graph captures it in the next.
UNTIMED = 3


class BareCalls:
    """All calls of a walk on the same inputs, captured as those of a walk are, and one wait at the end.

    Args:
        x: (N, C, H, W). t: a time. labels: (N,) int64, or None.
        is_guided: for each row, whether it calls the network with 2 N images.

    Raises:
        BackendUnavailable, OutOfMemory: the device's.
    """

    def __init__(self, walk: DeviceWalk, x: State, t: float, labels: Labels | None, is_guided: Sequence[bool]) -> None:
        self.walk, self.device, self.is_guided = walk, walk.device, is_guided
        self.device.make_current()
        count = len(x)
        arrays = [np.concatenate([x, x]), np.full(2 * count, t, np.float32)]
        if labels is not None:
            arrays.append(np.concatenate([labels, labels]))
        out = 4 * 2 * count * walk.out_channels * math.prod(x.shape[2:])
        self.memory = [self.device.allocate(size) for size in (*(array.nbytes for array in arrays), out)]
        for array, place in zip(arrays, self.memory, strict=False):
            self.device.upload(array, place.address)
        self.calls = {guided: self._captured(2 * count if guided else count) for guided in dict.fromkeys(is_guided)}

    def _captured(self, batch: int) -> Callable[[], None]:
        call = self.walk.engine.bound(batch, tuple(place.address for place in self.memory))
        for _ in range(UNTIMED):
            call()
        return self.device.captured(call) if self.walk.engine.is_capturable else call

    def __call__(self) -> None:
        self.device.make_current()
        for guided in self.is_guided:
            self.calls[guided]()
        self.device.wait()
