"""Calls of a network on a device with arrays of the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.device.device import Device, Engine, Memory


class DeviceCalls:
    """Single calls: arrays go to the device, the output comes back.

    Memory is kept for the next call of the same batch.

    Args:
        device, engine: the engine calls the network on the device's stream.
        output_shape: of one image.
    """

    def __init__(self, device: Device, engine: Engine, output_shape: tuple[int, ...]) -> None:
        self.device, self.engine, self.output_shape = device, engine, output_shape
        self.memory: list[Memory] = []
        self.out = np.empty((0, *output_shape), np.float32)
        self.call: Callable[[], None]

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """As `Backend.predict`.

        Raises:
            BackendUnavailable, OutOfMemory: the device's.
        """
        self.device.make_current()
        if len(self.out) != len(inputs[0]):
            self._bind(inputs)
        for array, memory in zip(inputs, self.memory, strict=False):
            self.device.upload(array, memory.address)
        self.call()
        self.device.download(self.memory[-1].address, self.out)
        return self.out

    def _bind(self, inputs: Sequence[NDArray[Any]]) -> None:
        batch = len(inputs[0])
        self.memory = [self.device.allocate(array.nbytes) for array in inputs]
        self.memory.append(self.device.allocate(4 * batch * math.prod(self.output_shape)))
        self.call = self.engine.bound(batch, tuple(memory.address for memory in self.memory))
        self.out = np.empty((batch, *self.output_shape), np.float32)
