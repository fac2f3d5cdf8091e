"""The animation of the way from noise to image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drun.errors import ConfigError
from drun.run.images import grid, to_uint8
from drun.run.trajectory import FRAME_MS, LAST_FRAME_MS, MAX_FRAMES, TrajectoryWriter


def record(path: Path, num_rows: int, shape: tuple[int, ...] = (2, 3, 8, 8)) -> np.ndarray:
    """Animate states that turn from noise into a smooth image; the last one."""
    rng = np.random.default_rng(0)
    final = np.broadcast_to(np.linspace(-0.8, 0.8, shape[-1]), shape)
    with TrajectoryWriter(path, num_rows, to_uint8) as writer:
        for row in range(-1, num_rows):
            share = (num_rows - 1 - row) / num_rows
            noise = rng.standard_normal(shape) if row < num_rows - 1 else 0
            x = (0.3 + 0.7 * share) * noise + (1 - share) * final  # the encoder joins frames that look the same
            if row in writer.shown:
                writer.add(row, x.astype(np.float32))
    return np.asarray(x)


def frames(path: Path) -> tuple[list[np.ndarray], list[int]]:
    pictures, durations = [], []
    with Image.open(path) as image:
        assert image.format == "WEBP"
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(image.info["duration"])
    return pictures, durations


@pytest.mark.parametrize(("num_rows", "num_frames"), [(1, 2), (7, 8), (118, 119), (119, 120), (120, 120), (1000, 120)])
def test_frames(tmp_path: Path, num_rows: int, num_frames: int) -> None:
    """The noise, then one frame a step, never more than 120; the last frame is the final state and stays."""
    final = record(tmp_path / "a.webp", num_rows)
    pictures, durations = frames(tmp_path / "a.webp")
    assert len(pictures) == num_frames <= MAX_FRAMES
    assert durations == [FRAME_MS] * (num_frames - 1) + [LAST_FRAME_MS]
    sheet = grid(to_uint8(final)).astype(int)
    assert pictures[-1].shape == sheet.shape
    assert np.abs(pictures[-1] - sheet).mean() < 8
    assert np.abs(pictures[0] - sheet).mean() > 30
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]


def test_the_first_frame_is_the_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    record(tmp_path / "a.webp", 10)
    sheet = grid(to_uint8(noise)).astype(int)
    assert np.abs(frames(tmp_path / "a.webp")[0][0] - sheet).mean() < 12


def test_grey_images_and_more_than_sixteen(tmp_path: Path) -> None:
    final = record(tmp_path / "a.WEBP", 5, shape=(20, 1, 8, 8))
    pictures, _ = frames(tmp_path / "a.WEBP")
    sheet = grid(to_uint8(final[:16]))
    assert pictures[-1].shape == (*sheet.shape[:2], 3)
    assert np.abs(pictures[-1] - sheet).mean() < 8


def test_an_interruption_leaves_no_file(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path / "a.webp", 4, to_uint8)
    writer.add(-1, np.zeros((1, 3, 8, 8)))
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []


def test_other_file_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--trajectory got '.*a.gif', expected a file that ends in .webp"):
        TrajectoryWriter(tmp_path / "a.gif", 4, to_uint8)
