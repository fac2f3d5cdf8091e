"""What samples are compared with: what the model learned from, or what is named, prepared as for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dbench.quality.reference import open_reference
from dbench.quality.samples import Samples, open_samples
from drun.errors import ConfigError, DataError
from dtrain.data.digits import digit_labels
from dtrain.data.image_files import fit
from dtrain.data.pixels import load_images


def samples(side: int = 6, channels: int = 1, **record: Any) -> Samples:
    return Samples(Path("drawn/samples.npz"), np.zeros((2, side, side, channels), np.uint8), record)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 9x7 colour pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "photos" / ("cat" if i < 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "photos"


def trained_on(source: str, fingerprint: str) -> dict[str, Any]:
    return {"source": source, "num_images": 5, "image_size": 6, "channels": 1, "fingerprint": fingerprint}


def test_a_folder_is_read_as_training_reads_it(photos: Path) -> None:
    notes: list[str] = []
    found = open_reference(str(photos), samples(), note=notes.append)
    files = sorted(photos.rglob("*.png"))
    expected = np.stack([fit(Image.open(file), 6, 1) for file in files])
    np.testing.assert_array_equal(found.read(np.arange(5)), expected)
    labels, names = found.labels()
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1, 1]
    assert names == ["cat", "dog"]
    assert (found.num_images, found.shape, found.name) == (5, (6, 6, 1), "photos")
    (said,) = notes
    assert "have 9x7 pixels in colour, the samples 6x6 pixels in grey" in said
    assert "of their centre" in said


def test_images_of_the_same_kind_are_not_remarked_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", images=np.ones((5, 6, 6, 3), np.uint8), labels=np.arange(5))
    notes: list[str] = []
    found = open_reference(str(tmp_path / "real.npz"), samples(channels=3), note=notes.append)
    assert found.read(np.array([1, 3])).tolist() == np.ones((2, 6, 6, 3)).tolist()
    assert notes == []


def test_other_images_than_the_model_learned_from_are_remarked_on(tmp_path: Path) -> None:
    notes: list[str] = []
    told = {"source": "photos", "num_images": 60_000, "image_size": 16, "channels": 1, "fingerprint": "f" * 64}
    open_reference("digits", samples(16, trained_on=told), note=notes.append)
    assert notes == ["the model learned from 60,000 images of 'photos', these 1,797 are others"]


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (16, 3), (6, 1)])
def test_digits_of_any_size(side: int, channels: int) -> None:
    found = open_reference("digits", samples(side, channels))
    read = found.read(np.arange(0, 1797, 100))
    assert read.shape == (18, side, side, channels)
    if side == 16:
        np.testing.assert_array_equal(read, load_images("digits", 16, channels)[::100])
    np.testing.assert_array_equal(found.labels()[0], digit_labels())
    assert found.title == "real digits"


def test_by_default_it_is_what_the_model_learned_from(photos: Path) -> None:
    notes: list[str] = []
    unknown = open_reference(str(photos), samples())
    assert (unknown.learned, unknown.title) == (False, "the images of 'photos'")
    record = trained_on(str(photos), unknown.fingerprint)
    found = open_reference(None, samples(trained_on=record), note=notes.append)
    assert (found.learned, found.num_images) == (True, 5)
    assert open_reference(str(photos), samples(trained_on=record)).learned
    assert found.title == "the training images"
    assert notes == []


def test_the_fingerprint_is_that_of_training(model: Any) -> None:
    """A real run: digits, trained, exported, drawn."""
    drawn = open_samples(model.samples)
    told = json.loads((model.samples / "run.json").read_text())["trained_on"]
    assert open_reference(None, drawn).fingerprint == told["fingerprint"]


@pytest.mark.parametrize("record", [{}, {"trained_on": None}])
def test_nothing_says_what_the_model_learned_from(record: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'drawn/samples\.npz' does not say which images its model learned"):
        open_reference(None, samples(**record))


def test_what_the_model_learned_from_is_gone_or_changed(photos: Path) -> None:
    record = trained_on(str(photos), open_reference(str(photos), samples()).fingerprint)
    Image.new("L", (9, 7), 3).save(photos / "cat" / "0.png")
    with pytest.raises(DataError, match="no longer holds the images that the model learned from: say with"):
        open_reference(None, samples(trained_on=record))
    with pytest.raises(DataError, match=r"no longer at 'nowhere': say with --reference"):
        open_reference(None, samples(trained_on=record | {"source": "nowhere"}))
    with pytest.raises(DataError, match=r"no run\.json of drun.*num_images"):
        open_reference(None, samples(trained_on=record | {"num_images": "many"}))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read images"):
        open_reference("cats", samples())
    with pytest.raises(DataError, match="no images in folder"):
        open_reference(str(tmp_path), samples())
