"""Carries a batch through a table on a device: what `drun.diffusion.loop.walk` does, without the host between steps.

Work goes to the device in windows of ten rows, and the host waits only at the end of one: there it tests whether the
states are finite, reports progress and shows the states that the observer asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.console import say
from drun.device.device import Device, Engine, Memory
from drun.device.layout import Walk, table_for_device
from drun.device.noise import DeviceNoise
from drun.device.steps import Steps
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import FINITE_EVERY, Observer, not_finite
from drun.diffusion.noise import NoiseSource, PhiloxNoise
from drun.diffusion.table import StepTable


def why_on_host(table: StepTable, x: State) -> str | None:
    """What the kernel cannot do of a walk, so that the loop on the host carries it; None: it can do all of it."""
    if x.dtype != np.float32:
        return "states of float64"
    if table.clip is not None and table.clip.dynamic_quantile > 0:
        return "dynamic thresholding"
    return None


class DeviceWalk:
    """Walks on a device. Memory and graphs are kept for the next batch of the same shape.

    Args:
        device, engine: the engine calls the network on the device's stream.
        out_channels: of the network's output, C or, with a learned variance, 2 C.
    """

    def __init__(self, device: Device, engine: Engine, out_channels: int) -> None:
        self.device, self.engine, self.out_channels = device, engine, out_channels
        self.steps: Steps | None = None
        self.said: set[str] = set()

    def can(self, table: StepTable, x: State) -> bool:
        """Whether the kernel can carry these states. If not, the loop on the host has to, and this is said once."""
        why = why_on_host(table, x)
        if why is not None and why not in self.said:
            self.said.add(why)
            say(f"{why}: each step goes through the processor")
        return why is None

    def __call__(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """Carry one batch from noise to images; see `drun.diffusion.loop.walk`.

        Args:
            table, x: such that `why_on_host` is None.
            labels: (N,) int64, or None. Guided rows call the network with 2 N images.

        Raises:
            NotFiniteError: a state that is not finite. OutOfMemory, BackendUnavailable: the device's.
        """
        self.device.make_current()
        steps = self._steps(x, labels is not None)
        rows = table_for_device(table, labels is not None, noise.num_drawn if isinstance(noise, PhiloxNoise) else 1)
        draws = DeviceNoise(self.device, noise, rows.draws, x.nbytes)
        columns, numbers = self._uploaded(rows.columns), self._uploaded(rows.draws)
        # The first rows multiply earlier estimates by 0, so these must be finite.
        history = self._uploaded(np.zeros((max(1, table.history), *x.shape), np.float32))
        walk = Walk(
            table=columns.address,
            draws=numbers.address,
            history=history.address,
            rows=len(table.rows),
            history_length=table.history,
            clips=table.clip is not None,
            guided_channels=guidance.channels or x.shape[1],
            **draws.fields,
        )
        steps.begin(x.astype(np.float32, copy=False), None if labels is None else _with_null(labels, guidance), walk)
        if -1 in observer.rows:
            observer.show(-1, x)
        for window in _windows(len(table.rows)):
            frames = self._begin(window, steps, rows.is_guided, observer)
            draws.begin(range(window.stop, window.stop + FINITE_EVERY))
            if not steps.is_finite():
                raise not_finite(table, window.start, window.stop - 1)
            for row, frame in frames.items():
                observer.show(row, frame)
            observer.progress(window.stop)
        return steps.states()

    def _begin(
        self, window: range, steps: Steps, is_guided: tuple[bool, ...], observer: Observer
    ) -> dict[int, NDArray[np.float32]]:
        """Begin the rows of a window -> the states that are shown, which are there as soon as the device was waited
        for."""
        frames = {}
        for row in window:
            steps.step(is_guided[row])
            if row in observer.rows:
                frames[row] = np.empty(steps.shape, np.float32)
                self.device.begin_download(steps.x.address, frames[row])
        return frames

    def _steps(self, x: State, has_labels: bool) -> Steps:
        if self.steps is None or (self.steps.shape, self.steps.has_labels) != (x.shape, has_labels):
            self.steps = None  # first, because there may be no room for both
            self.steps = Steps(self.device, self.engine, x.shape, self.out_channels, has_labels)
        return self.steps

    def _uploaded(self, array: NDArray[Any]) -> Memory:
        memory = self.device.allocate(array.nbytes)
        self.device.upload(array, memory.address)
        return memory


def _with_null(labels: Labels, guidance: Guidance) -> Labels:
    """(N,) -> (2 N,)"""
    return np.concatenate([labels, np.full_like(labels, guidance.null_label)])


def _windows(rows: int) -> Iterator[range]:
    for first in range(0, rows, FINITE_EVERY):
        yield range(first, min(first + FINITE_EVERY, rows))
