"""Samples of any tool: every kind of file, and what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dbench.quality.samples import open_samples
from drun.errors import DataError


def images(channels: int = 1, num: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 6, 6, channels), np.uint8)


def write_pngs(folder: Path, pixels: np.ndarray) -> Path:
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image.squeeze()).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["folder", "zip", "npz", "npy", "drun"])
def test_every_kind(kind: str, channels: int, tmp_path: Path) -> None:
    pixels, path = images(channels), tmp_path / f"samples.{kind}"
    if kind in ("folder", "zip"):
        path = write_pngs(tmp_path / "pngs", pixels)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for png in sorted(path.iterdir()):
                archive.write(png, png.name)
        path = tmp_path / "s.zip"
    if kind in ("npz", "drun"):
        np.savez(tmp_path / "samples.npz", arr_0=pixels)
        path = tmp_path if kind == "drun" else path
    if kind == "npy":
        np.save(path, pixels)
    found = open_samples(path)
    np.testing.assert_array_equal(found.images, pixels)
    assert found.file == (tmp_path / "samples.npz" if kind == "drun" else path)
    assert found.name == {"folder": "pngs", "zip": "s", "npy": "samples"}.get(kind, tmp_path.name)
    assert (found.settings, found.labels()) == ({}, None)


def test_the_record_of_drun_gives_settings_and_labels(model: Any) -> None:
    found = open_samples(model.samples)
    assert found.settings["num_steps"] == 3
    assert found.labels() is None
    assert open_samples(model.samples / "samples.npz").settings == found.settings


def test_labels_are_those_that_were_drawn(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", arr_0=images(num=5))
    settings = {"labels": "4,1", "seed": 0, "classes": {"count": 6, "null_label": 6, "names": []}}
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    labels = open_samples(tmp_path).labels()
    assert labels is not None
    assert labels.tolist() == [4, 1, 4, 1, 4]
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings | {"seed": {}, "labels": "random"}}))
    with pytest.raises(DataError, match=r"no run\.json of drun"):
        open_samples(tmp_path).labels()


def test_a_run_that_is_not_finished_says_so(tmp_path: Path) -> None:
    write_pngs(tmp_path / "out", images())
    (tmp_path / "out" / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"no samples at .*the run is not finished, repeat its command"):
        open_samples(tmp_path / "out")


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no samples at 'nowhere': draw them with 'drun"):
        open_samples(Path("nowhere"))
    with pytest.raises(DataError, match="no images in folder"):
        open_samples(tmp_path)


def test_pictures_of_two_sizes(tmp_path: Path) -> None:
    folder = write_pngs(tmp_path / "pngs", images())
    Image.new("L", (4, 4)).save(folder / "9.png")
    with pytest.raises(DataError, match=r"'0\.png' has 6x6 pixels in grey, '9\.png' 4x4"):
        open_samples(folder)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 16, 8, 1), np.uint8), "8x16 pixels, expected squares: crop them"),
        (np.zeros((4, 16, 16, 1)), "float64 .* as uint8"),
        (np.zeros((4, 16, 16, 4), np.uint8), "as uint8"),
        (np.zeros((0, 16, 16, 1), np.uint8), "as uint8"),
        (np.zeros((1, 16, 16, 1), np.uint8), "holds 1 sample, a covariance needs at least 2: draw 512"),
    ],
)
def test_samples_that_do_not_fit(pixels: np.ndarray, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", arr_0=pixels)
    with pytest.raises(DataError, match=message):
        open_samples(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_broken_samples(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "samples.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot read the arrays of"):
        open_samples(tmp_path / "samples.npz")


def test_another_archive_and_another_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"no array is called as images are in '.*other\.npz'"):
        open_samples(tmp_path / "other.npz")
    (tmp_path / "notes.txt").write_text("no images")
    with pytest.raises(DataError, match="unsupported image source: got the file"):
        open_samples(tmp_path / "notes.txt")
