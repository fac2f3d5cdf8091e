"""The memory of a walk at fixed addresses, and the step of each kind of row, captured once."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drun.device.device import Device, Engine, Memory
from drun.device.layout import BEGINNING, Position, Walk
from drun.diffusion.arrays import Labels


class Steps:
    """A network and the kernel, bound to memory for batches of one shape.

    Args:
        device, engine: the engine calls the network on the device's stream.
        shape: (N, C, H, W) of the states.
        out_channels: of the network's output.
        has_labels: whether the network takes labels, and rows may be guided.
    """

    def __init__(
        self, device: Device, engine: Engine, shape: tuple[int, ...], out_channels: int, has_labels: bool
    ) -> None:
        self.device, self.engine, self.shape, self.has_labels = device, engine, shape, has_labels
        count, channels, *sides = shape
        pixels = math.prod(sides)
        self.fields = {"count": count, "channels": channels, "out_channels": out_channels, "pixels": pixels}
        twice = 2 * count  # a guided row calls the network with every state twice
        self.x, self.t = device.allocate(4 * twice * channels * pixels), device.allocate(4 * twice)
        self.output = device.allocate(4 * twice * out_channels * pixels)
        self.y: Memory | None = device.allocate(8 * twice) if has_labels else None
        self.walk, self.position = device.allocate(ctypes.sizeof(Walk)), device.allocate(ctypes.sizeof(Position))
        self.steps: dict[bool, Callable[[], None]] = {}

    def begin(self, x: NDArray[np.float32], labels: Labels | None, walk: Walk) -> None:
        """Go to the first row.

        Args:
            x: (N, C, H, W) initial noise. labels: (2 N,) those of the images, then the ones for "no class".
            walk: the fields that are not of this memory.
        """
        for name, value in self.fields.items():
            setattr(walk, name, value)
        walk.x, walk.t, walk.output = self.x.address, self.t.address, self.output.address
        self.device.upload(np.concatenate([x, x]), self.x.address)
        if self.y is not None and labels is not None:
            self.device.upload(labels, self.y.address)
        self.device.upload(_bytes(walk), self.walk.address)
        self.device.upload(_bytes(BEGINNING), self.position.address)
        self.device.advance(self.walk.address, self.position.address)

    def step(self, is_guided: bool) -> None:
        """Begin a row: the network's call, the update and the way to the next row."""
        if is_guided not in self.steps:
            self.steps[is_guided] = self._step(self.shape[0] * (2 if is_guided else 1))
        self.steps[is_guided]()

    def _step(self, batch: int) -> Callable[[], None]:
        inputs = [memory.address for memory in (self.x, self.t, self.y) if memory is not None]
        call = self.engine.bound(batch, (*inputs, self.output.address))

        def update() -> None:
            self.device.update(self.walk.address, self.position.address, self.shape[0], math.prod(self.shape[1:]))
            self.device.advance(self.walk.address, self.position.address)

        def step() -> None:
            call()
            update()

        call()  # in its first call a runtime allocates, which no graph can hold
        return self.device.captured(step) if self.engine.is_capturable else step

    def is_finite(self) -> bool:
        """Whether all states have been finite so far. It waits for the device."""
        content = _bytes(Position())
        self.device.wait()
        self.device.download(self.position.address, content)
        return not Position.from_buffer_copy(content.tobytes()).not_finite

    def states(self) -> NDArray[np.float32]:
        """(N, C, H, W) after the work so far. It waits for the device."""
        x = np.empty(self.shape, np.float32)
        self.device.download(self.x.address, x)
        return x


def _bytes(struct: ctypes.Structure) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(struct), np.uint8).copy()
