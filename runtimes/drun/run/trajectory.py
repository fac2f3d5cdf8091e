"""The way from noise to image as an animation. Frames wait on disk, so memory does not grow with the steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from drun.diffusion.arrays import State
from drun.errors import ConfigError
from drun.run.images import Frames, UInt8, grid, write_animation

MAX_IMAGES = 16
MAX_FRAMES = 120
FRAME_MS = 50
LAST_FRAME_MS = 2000


class TrajectoryWriter:
    """Collects the states of the first images of a batch, and encodes them at the end.

    Args:
        path: a `.webp` file.
        num_rows: rows of the step table; beyond 120 an even choice of them is shown.
        to_pixels: (N, C, H, W) state -> (N, H, W, C) uint8.

    Raises:
        ConfigError: another file type.
    """

    def __init__(self, path: Path, num_rows: int, to_pixels: Callable[[State], UInt8]) -> None:
        if path.suffix.lower() != ".webp":
            raise ConfigError(f"--trajectory got '{path}', expected a file that ends in .webp")
        self.path, self.to_pixels = path, to_pixels
        self.shown = {round(row) for row in np.linspace(-1, num_rows - 1, min(num_rows + 1, MAX_FRAMES))}
        self.frames = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        self.num_frames = 0

    def add(self, row: int, x: State) -> None:
        """Keep the states after `row`, one of `shown`; -1 is the initial noise. x: (N, C, H, W)."""
        sheet = grid(self.to_pixels(x[:MAX_IMAGES]))
        self.frames.write(sheet.tobytes())
        self.shape, self.num_frames = sheet.shape, self.num_frames + 1

    def _read(self, frame: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        size = int(np.prod(self.shape))
        self.frames.seek(frame * size)
        return np.frombuffer(self.frames.read(size), np.uint8).reshape(self.shape)

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self.frames:
            if kind is None and self.num_frames:
                durations = [FRAME_MS] * (self.num_frames - 1) + [LAST_FRAME_MS]
                write_animation(self.path, Frames(self.num_frames, self._read), durations)
