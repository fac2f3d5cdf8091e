"""The noise of a walk on a device: made by the kernel where it knows the streams, else uploaded a window ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.device.device import Device
from drun.diffusion.loop import FINITE_EVERY
from drun.diffusion.noise import NoiseSource, PhiloxNoise

#: Draws on the device: those of the window that it computes, and of the next one.
SLOTS = 2 * FINITE_EVERY


class DeviceNoise:
    """The draws of a source.

    Args:
        numbers: (R,) the number of each row's draw, see `drun.device.layout.Table`.
        num_bytes: of a draw of the whole batch, in float32.
    """

    def __init__(self, device: Device, noise: NoiseSource, numbers: NDArray[np.int32], num_bytes: int) -> None:
        self.device, self.noise, self.numbers, self.num_bytes = device, noise, numbers, num_bytes
        #: of the kernel's `Walk`
        self.fields: dict[str, Any]
        if isinstance(noise, PhiloxNoise):
            samples = np.array(noise.indices, np.uint64)
            self.memory = device.allocate(samples.nbytes)
            device.upload(samples, self.memory.address)
            self.fields = {"seed": noise.seed, "samples": self.memory.address}
        else:
            self.memory = device.allocate(SLOTS * num_bytes)
            self.fields = {"uploaded": self.memory.address, "slots": SLOTS}
            self.begin(range(FINITE_EVERY))
            device.wait()

    def begin(self, window: range) -> None:
        """Begin to upload what these rows need, while the device computes the rows before them."""
        if "uploaded" in self.fields:
            for number in filter(None, self.numbers[window.start : window.stop].tolist()):
                self.device.begin_upload(self.noise(), self.memory.address + number % SLOTS * self.num_bytes)
