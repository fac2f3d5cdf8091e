"""Raw pixels made small by the mean over boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbench.quality import features
from dbench.quality.features import extract
from dbench.quality.features.pixels import PixelFeatures, boxes
from dbench.suites import quality
from drun.console import silent
from dtrain.data.digits import digits_8x8
from dtrain.data.pixels import load_images


def images(num: int, side: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, side, side, channels), np.uint8)


@pytest.mark.parametrize(("length", "side"), [(28, 7), (28, 8), (16, 16), (31, 8), (8, 1)])
def test_boxes_cover_every_pixel_once(length: int, side: int) -> None:
    weights = boxes(length, side)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=0), side / length, rtol=1e-12)


def test_a_box_that_cuts_a_pixel_takes_its_part() -> None:
    np.testing.assert_allclose(boxes(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])


def test_whole_boxes_are_plain_means_by_channel() -> None:
    pixels = images(5, 28, 3)
    expected = pixels.reshape(5, 7, 4, 7, 4, 3).mean(axis=(2, 4)).reshape(5, -1) / 255
    np.testing.assert_allclose(PixelFeatures(7)(pixels), expected, rtol=1e-12)


def test_halved_sides_are_exact_so_that_results_of_before_hold() -> None:
    pixels = images(5, 16, 1)
    expected = pixels.reshape(5, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(5, 64) / 255
    np.testing.assert_array_equal(PixelFeatures(8)(pixels), expected)


def test_the_8x8_pixels_of_the_training_images_are_the_digits() -> None:
    features = PixelFeatures(8)(load_images("digits", 16, 1))
    np.testing.assert_allclose(features, digits_8x8().reshape(-1, 64), atol=1 / 255)


@pytest.mark.parametrize(
    ("num_images", "shape", "side"),
    [
        (512, (16, 16, 1), 8), (511, (16, 16, 1), 7), (10_000, (28, 28, 1), 8), (10_000, (4, 4, 1), 4),
        (512, (64, 64, 3), 4), (1536, (64, 64, 3), 8), (2, (64, 64, 3), 1), (None, (64, 64, 3), 8),
    ],
)  # fmt: skip
def test_a_dimension_has_eight_images(num_images: int | None, shape: tuple[int, int, int], side: int) -> None:
    assert features.choose("pixels", num_images, shape) == PixelFeatures(side, shape[2])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, extractor = images(7, 8, 3), PixelFeatures(4)
    monkeypatch.setattr(features, "BLOCK_VALUES", 3 * 8 * 8 * 3)
    np.testing.assert_array_equal(extract(extractor, pixels.__getitem__, 7, (8, 8, 3)), extractor(pixels))


def test_what_it_says_of_itself() -> None:
    extractor = PixelFeatures(8, 3)
    assert (extractor.name, extractor.unit) == ("8x8 pixels", "squared pixel values, 8x8")
    assert extractor.num_images == 8 * 192


NEW = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Brightness:
    name = "brightness"
    unit = "squared levels"
    num_images = 8

    def __call__(self, images):
        return images.mean(axis=(1, 2), dtype=float)

def choose(num_images, shape):
    return Brightness()
"""


def test_a_file_in_the_folder_is_an_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brightness.py").write_text(NEW)
    monkeypatch.setattr(features, "__path__", [*features.__path__, str(tmp_path)])
    assert features.names() == ["brightness", "pixels"]
    np.save(tmp_path / "real.npy", images(40, 8, 1))
    np.save(tmp_path / "drawn.npy", images(20, 8, 1))
    settings = quality.Settings(tmp_path / "drawn.npy", str(tmp_path / "real.npy"), splits=2, features="brightness")
    result = quality.measure(settings, silent)
    assert result.row(quality.rows.SAMPLES).unit == "squared levels"
    assert "by Fréchet distance on brightness" in result.row(quality.rows.POSITION).headline
    assert all(len(near) == 5 for _, near in result.row(quality.rows.NEARER).details["nearest"])
