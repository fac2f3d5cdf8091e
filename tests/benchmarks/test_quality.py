"""`dbench quality` on real digits, on noise, and on what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench.suites import quality
from dbench.suites.quality import Settings, measure, pixels_8x8
from drun.console import silent
from drun.errors import ConfigError, DataError
from drun.files import sha256
from dtrain.data.digits import digits_8x8
from dtrain.data.pixels import load_images


def save(folder: Path, images: np.ndarray) -> Path:
    np.savez(folder / "samples.npz", arr_0=images)
    return folder


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_images("digits", 16, 1)


def test_boxes_and_channels_are_averaged() -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[1, :2, 2:4] = [[[255, 0, 0], [0, 0, 0]], [[255, 255, 0], [0, 0, 255]]]
    features = pixels_8x8(images)
    assert features.shape == (2, 64)
    assert features[1, 1] == pytest.approx(4 / 12)
    assert features.sum() == pytest.approx(4 / 12)


def test_the_8x8_pixels_of_the_training_images_are_the_digits(digits: np.ndarray) -> None:
    np.testing.assert_allclose(pixels_8x8(digits), digits_8x8().reshape(-1, 64), atol=1 / 255)


def test_real_digits_are_real_and_noise_is_noise(digits: np.ndarray, tmp_path: Path) -> None:
    result = measure(Settings(save(tmp_path, digits[::3]), splits=4), silent)
    real = result.row(quality.POSITION).value
    noise = np.random.default_rng(9).integers(0, 256, (300, 16, 16, 1), np.uint8)
    far = measure(Settings(save(tmp_path, noise), splits=4), silent).row(quality.POSITION).value
    assert real is not None
    assert far is not None
    assert abs(real) < 1
    assert far == pytest.approx(100, abs=3)
    assert result.row(quality.NEARER).value == 100  # they are copies
    halves = result.row(quality.HALVES)
    assert halves.p10 is not None
    assert halves.p90 is not None
    assert 0 < halves.p10 <= halves.p90 < 0.2


def test_the_command_writes_and_ends_with_json(model: Any, dbench: Callable[..., Any]) -> None:
    done = dbench("quality", model.samples, "--out", "results")
    assert done.code == 0
    last = json.loads(done.out.splitlines()[-1])
    assert last == json.loads(next(Path("results").glob("quality-samples-*.json")).read_text())
    assert last["subject"]["num_samples"] == 6
    assert last["subject"]["run"]["num_steps"] == 3
    assert last["subject"]["samples_sha256"] == sha256(model.samples / "samples.npz")
    assert last["subject"]["bundle_sha256"] == model.open().sha256
    assert last["subject"]["checkpoint_sha256"] == sha256(model.checkpoint)
    assert str(model.samples.parent) not in done.out
    assert next(Path("results").glob("quality-samples-*.md")).read_text() in done.out


def test_equal_runs_give_equal_numbers(model: Any) -> None:
    first, second = (measure(Settings(model.samples), silent) for _ in range(2))
    assert first.rows == second.rows


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no samples at .*drun"):
        measure(Settings(tmp_path), silent)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 12, 12, 1), np.uint8), "12x12 pixels, expected squares"),
        (np.zeros((4, 16, 8, 1), np.uint8), "16x8 pixels, expected squares"),
        (np.zeros((4, 16, 16, 1)), "float64 .* expected uint8"),
        (np.zeros((4, 16, 16), np.uint8), "expected uint8"),
        (np.zeros((1, 16, 16, 1), np.uint8), "at least 2"),
    ],
)
def test_samples_that_do_not_fit(images: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        measure(Settings(save(tmp_path, images)), silent)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_broken_samples(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "samples.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"(cannot read the arrays of|is not a samples.npz)"):
        measure(Settings(tmp_path / "samples.npz"), silent)


def test_another_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"(cannot read the arrays of|is not a samples.npz)"):
        measure(Settings(tmp_path / "other.npz"), silent)


def test_unknown_reference(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--reference got 'cats', expected digits"):
        measure(Settings(tmp_path, "cats"), silent)
