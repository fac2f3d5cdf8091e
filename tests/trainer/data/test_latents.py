"""Reading latents in both layouts; what files must hold is written out here by hand."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_pictures import SIZE, everything, noise, tiny_vae
from numpy.typing import NDArray
from PIL import Image

from drun.errors import DataError
from dtrain.data import encoded_shards
from dtrain.data.encode import encode
from dtrain.data.latents import open_latents, sample_moments
from dtrain.data.sources import open_source


@pytest.fixture
def encoded(pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
    encode(pictures, tmp_path / "latents", vae, SIZE)
    return tmp_path / "latents"


def test_reading_by_index(encoded: Path) -> None:
    latents = open_latents(encoded)
    assert (len(latents), latents.shape, latents.image_size, latents.num_classes) == (7, (4, 2, 2), SIZE, 2)
    assert (latents.scale, latents.bias) == ((0.18215,) * 4, (0.0,) * 4)
    assert latents.labels is not None
    assert latents.labels.dtype == np.int64
    assert latents.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]

    moments = np.concatenate([np.load(path) for path in sorted(encoded.glob("moments-*"))])
    images = np.concatenate([np.load(path) for path in sorted(encoded.glob("images-*"))])
    assert len(np.unique(moments[:, 0, 0, 0])) == 7
    indices = np.array([6, 0, 3, 2, 3, 5])
    for opened in (latents, pickle.loads(pickle.dumps(latents))):  # as workers of a data loader get it
        assert np.array_equal(opened.moments(indices), moments[indices])
        assert opened.moments(indices).dtype == np.float32
        assert opened.images is not None
        assert np.array_equal(opened.images(indices), images[indices])
        assert opened.images(indices).dtype == np.uint8
    assert latents.moments(np.empty(0, np.int64)).shape == (0, 8, 2, 2)


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range(encoded: Path, index: int) -> None:
    latents = open_latents(encoded)
    assert latents.images is not None
    for read in (latents.moments, latents.images):
        with pytest.raises(IndexError, match=r"expected 0\.\.6"):
            read(np.array([0, index]))


def test_no_file_is_kept_open(encoded: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    latents = [open_latents(encoded) for _ in range(3)]
    for opened in latents:
        everything(opened)
    assert len(os.listdir("/dev/fd")) == before


def test_fingerprint_is_of_the_latents_alone(encoded: Path) -> None:
    first = open_latents(encoded).fingerprint
    (encoded / "teacher.npy").write_bytes(b"someone's cache")
    assert open_latents(encoded).fingerprint == first
    os.utime(encoded / "moments-00001.npy", ns=(0, 0))
    assert open_latents(encoded).fingerprint != first


def test_scale_and_bias_come_from_the_vae(pictures: Path, tmp_path: Path) -> None:
    other = tiny_vae(tmp_path / "other", scaling_factor=0.5, shift_factor=0.25, latent_channels=3)
    encode(pictures, tmp_path / "out", str(other), SIZE)
    latents = open_latents(tmp_path / "out")
    assert (latents.shape, latents.scale, latents.bias) == ((3, 2, 2), (0.5,) * 3, (-0.125,) * 3)


def edit_index(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        index.update(changes)
        (folder / "index.json").write_text(json.dumps({k: v for k, v in index.items() if v != "gone"}))

    return edit


def save(name: str, array: NDArray[Any]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


ENCODED_DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "moments-00002.npy").unlink(), r"cannot read the array .*moments-00002\.npy"),
    (lambda folder: (folder / "images-00000.npy").unlink(), r"cannot read the array .*images-00000\.npy"),
    (cut("images-00001.npy"), r"cannot read the array .*images-00001\.npy"),
    (cut("moments-00000.npy"), r"cannot read the array .*moments-00000\.npy"),
    (save("moments-00001.npy", np.zeros((3, 8, 2, 2))), r"00001\.npy': got float64 .*, expected float32 \(3, 8"),
    (save("moments-00002.npy", np.zeros((3, 8, 2, 2), "f4")), r"got float32 \(3, 8, 2, 2\), expected float32 \(1, 8"),
    (save("images-00000.npy", np.zeros((3, 8, 8, 3), "u1")), r"images-00000\.npy': got uint8 \(3, 8, 8, 3\)"),
    (save("images-00000.npy", np.zeros((3, 16, 16, 3), "u1", order="F")), "it is in Fortran order, expected C order"),
    (save("images-00000.npy", np.array([{}])), r"cannot read the array .*images-00000\.npy"),
    (lambda folder: (folder / "index.json").write_text("{"), r"cannot read .*index\.json.*; run the same"),
    (edit_index(version=2), r"wrong index .*index\.json': expected .*'version': 1"),
    (edit_index(shape="gone"), r"wrong index .*: it lacks 'shape'; run the same dtrain encode again"),
    (edit_index(shape=[4, 2]), r"wrong index .*: shape got \[4, 2\], expected 3 sides"),
    (edit_index(labels=[0, 1]), r"wrong index .*: expected no labels, or 7 whole numbers in 0\.\.1"),
    (edit_index(labels=[0, 0, 0, 0, 0, 0, -1]), r"expected no labels, or 7 whole numbers in 0\.\.1"),
    (edit_index(names=[]), "wrong index .*: names are not one text or more"),
    (edit_index(names=["x"] * 8, labels=None, classes=None), r"got float32 \(1, 8, 2, 2\), expected float32 \(2"),
]


@pytest.mark.parametrize(("damage", "message"), ENCODED_DAMAGE)
def test_damaged_folder(encoded: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(encoded)
    with pytest.raises(DataError, match=message):
        open_latents(encoded)


def test_damage_after_opening(encoded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latents = open_latents(encoded)
    moments = np.load(encoded / "moments-00001.npy")
    moments[2, 7, 1, 1] += 1e-3
    np.save(encoded / "moments-00001.npy", moments)
    with pytest.raises(DataError, match=r"moments-00001\.npy': the checksum of row 2 is wrong; delete it and encode"):
        latents.moments(np.array([0, 5, 4]))
    for path in encoded.glob("crc32-moments-*"):  # as in folders of older versions
        path.unlink()
    latents = open_latents(encoded)
    assert "the moments in " in capsys.readouterr().err
    moments[2, 7, 1, 1] = np.nan
    np.save(encoded / "moments-00001.npy", moments)
    assert np.isfinite(latents.moments(np.array([0, 3, 4, 6]))).all()
    with pytest.raises(DataError, match=r"row 2 of '.*moments-00001\.npy' holds others, expected finite"):
        latents.moments(np.array([0, 5, 4]))
    moments[2, 7, 1, 1] = -0.5
    np.save(encoded / "moments-00001.npy", moments)
    with pytest.raises(DataError, match=r"row 2 of .* holds others, .* and standard deviations from 0 on; encode it"):
        latents.moments(np.array([5]))
    moments[2, 7, 1, 1], moments[2, 3, 1, 1] = 0.0, -0.5  # a mean may be
    np.save(encoded / "moments-00001.npy", moments)
    assert latents.moments(np.array([5]))[0, 3, 1, 1] == -0.5
    cut("moments-00002.npy")(encoded)
    with pytest.raises(DataError, match=r"cannot read the shard .*moments-00002\.npy': it is cut short"):
        latents.moments(np.array([6]))
    (encoded / "images-00000.npy").unlink()
    assert latents.images is not None
    with pytest.raises(DataError, match=r"cannot read the shard .*images-00000\.npy"):
        latents.images(np.array([1]))


def test_names_that_are_not_utf8(repa: Path, pictures: Path) -> None:
    odd = os.fsdecode(b"\xff.npy")
    shutil.copy(repa / FIRST, repa / "vae-sd" / odd)
    with pytest.raises(DataError, match=r"the name of '.*' in '.*vae-sd' is not UTF-8: rename it"):
        open_latents(repa)
    shutil.copy(pictures / "cat" / "a.png", pictures / os.fsdecode(b"\xff.png"))
    with pytest.raises(DataError, match="is not UTF-8: rename it"):
        open_source(pictures)


def test_what_cannot_be_looked_at(repa: Path) -> None:
    (repa / "vae-sd" / "gone.npy").symlink_to(repa / "nowhere")
    with pytest.raises(DataError, match=r"cannot look at '.*gone.npy': No such file or directory; repair or remove"):
        open_latents(repa)


def test_no_latents(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"no latents in .*: expected index\.json.*, or REPA's folder vae-sd"):
            open_latents(folder)


# ---- REPA's layout ----------------------------------------------------------------------------------------


def repa_moments(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).random((8, 4, 4), dtype=np.float32)


def repa_image(number: int) -> Image.Image:
    return noise(32, 32, 100 + number)


NUMBERS = [0, 1, 999, 1000, 1001, 12345]


@pytest.fixture
def repa(tmp_path: Path) -> Path:
    """The layout of REPA's preparation; files and labels are written in orders that are not theirs."""
    root = tmp_path / "repa"
    for number in (1001, 0, 12345, 999, 1, 1000):
        place = f"{number // 1000:05d}"
        for folder in (root / "images" / place, root / "vae-sd" / place):
            folder.mkdir(parents=True, exist_ok=True)
        repa_image(number).save(root / "images" / place / f"img{number:08d}.png")
        np.save(root / "vae-sd" / place / f"img-mean-std-{number:08d}.npy", repa_moments(number))
    pairs = [[f"{n // 1000:05d}/img-mean-std-{n:08d}.npy", n % 7] for n in sorted(NUMBERS, key=lambda n: -n % 5)]
    (root / "vae-sd" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    (root / "images" / "dataset.json").write_text('{"labels": "not read"}')
    return root


def test_repa_layout(repa: Path) -> None:
    latents = open_latents(repa)
    assert (len(latents), latents.shape, latents.image_size) == (6, (4, 4, 4), 32)
    assert (latents.scale, latents.bias) == ((0.18215,) * 4, (0.0,) * 4)
    assert latents.labels is not None
    assert latents.labels.dtype == np.int64
    assert latents.labels.tolist() == [0, 1, 999 % 7, 1000 % 7, 0, 12345 % 7]
    assert latents.num_classes == 7
    indices = np.array([5, 0, 2, 2, 4])
    for opened in (latents, pickle.loads(pickle.dumps(latents))):
        assert np.array_equal(opened.moments(indices), [repa_moments(NUMBERS[i]) for i in indices])
        assert opened.images is not None
        assert np.array_equal(opened.images(indices), [np.asarray(repa_image(NUMBERS[i])) for i in indices])


def test_repa_files_are_paired_by_name_not_by_order(repa: Path) -> None:
    # Among the images 999 comes first now, and then 0 and 1; among the latents it is the third.
    (repa / "images/00000/img00000999.png").rename(repa / "images/00000/00000999.png")
    moments, images = everything(open_latents(repa))
    assert np.array_equal(moments, [repa_moments(n) for n in NUMBERS])
    assert np.array_equal(images, [np.asarray(repa_image(n)) for n in NUMBERS])
    # Five of each, and all wrong from the second on if they were paired by order.
    (repa / "images/00000/img00000001.png").unlink()
    (repa / "vae-sd/00001/img-mean-std-00001000.npy").unlink()
    with pytest.raises(DataError, match=r"no image in .* for latent .*img-mean-std-00000001\.npy'"):
        open_latents(repa)


def test_repa_without_labels(repa: Path) -> None:
    (repa / "vae-sd" / "dataset.json").unlink()
    assert open_latents(repa).labels is None
    assert open_latents(repa).num_classes == 0


def test_repa_without_images(repa: Path) -> None:
    shutil.rmtree(repa / "images")
    latents = open_latents(repa)
    assert latents.images is None
    assert latents.image_size == 32
    assert np.array_equal(latents.moments(np.arange(6)), [repa_moments(n) for n in NUMBERS])


def test_repa_fingerprint(repa: Path) -> None:
    first = open_latents(repa).fingerprint
    assert open_latents(repa).fingerprint == first
    os.utime(repa / "images" / "00000" / "img00000001.png", ns=(0, 0))
    second = open_latents(repa).fingerprint
    assert second != first
    os.utime(repa / "vae-sd" / "00001" / "img-mean-std-00001001.npy", ns=(0, 0))
    assert open_latents(repa).fingerprint != second


FIRST, LAST = "vae-sd/00000/img-mean-std-00000000.npy", "vae-sd/00012/img-mean-std-00012345.npy"

REPA_DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda root: (root / "images/00001/img00001000.png").unlink(),
        r"no image in .*images' for latent .*00001/img-mean-std-00001000\.npy': add it, or move images/ away",
    ),
    (
        lambda root: shutil.copy(root / "images/00001/img00001000.png", root / "images/00001/img00001002.png"),
        r"no latent in .*vae-sd' for image .*00001/img00001002\.png': encode or remove it",
    ),
    (
        lambda root: shutil.copy(root / "images/00001/img00001000.png", root / "images/00001/img00001000.bmp"),
        r"two images for one latent: .*img00001000\.bmp' and '00001/img00001000\.png'; remove one",
    ),
    (save(LAST, np.zeros((8, 4, 5), "f4")), r"wrong latent .*img-mean-std-00012345\.npy': got 768 bytes, expected 640"),
    (cut(LAST), r"img-mean-std-00012345\.npy': got 639 bytes, expected 640 as in 00000/img-mean-std-00000000\.npy"),
    (cut(FIRST), r"cannot read the array .*img-mean-std-00000000\.npy"),
    (save(FIRST, np.zeros((8, 4, 4), "f8")), r"wrong latent .*: got float64 \(8, 4, 4\), expected float32 \(2C, h"),
    (save(FIRST, np.zeros((7, 4, 4), "f4")), r"got float32 \(7, 4, 4\)"),
    (save(FIRST, np.zeros((1, 8, 4, 4), "f4")), r"got float32 \(1, 8, 4, 4\)"),
    (lambda root: noise(16, 16, 0).save(root / "images/00000/img00000000.png"), "got 16x16 pixels, expected 32x32"),
    (
        lambda root: (root / "vae-sd/dataset.json").write_text('{"labels": []}'),
        r"no label for '00000/img-mean-std-00000000\.npy' in .*vae-sd/dataset\.json': add it there",
    ),
    (
        lambda root: (root / "vae-sd/dataset.json").write_text(json.dumps({"labels": [[FIRST[7:], -3]]})),
        r"wrong label in .*dataset\.json': got -3 for '00000/img-mean-std-00000000\.npy', expected a whole",
    ),
    (
        lambda root: [path.unlink() for path in root.rglob("*.npy")],
        r"no latents in .*vae-sd': expected files such as 00000/img-mean-std-00000000\.npy",
    ),
]


@pytest.mark.parametrize(("damage", "message"), REPA_DAMAGE)
def test_damaged_repa_layout(repa: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(repa)
    with pytest.raises(DataError, match=message):
        open_latents(repa)


def test_damage_of_repa_files_after_opening(repa: Path) -> None:
    latents = open_latents(repa)
    broken = repa_moments(12345)
    broken[3, 2, 1] = np.inf
    np.save(repa / LAST, broken)
    with pytest.raises(DataError, match=r"broken latent: .*img-mean-std-00012345\.npy' holds others"):
        latents.moments(np.array([0, 5]))
    np.save(repa / LAST, repa_moments(0).reshape(4, 8, 4))  # of the same number of bytes
    with pytest.raises(DataError, match=r"wrong array .*img-mean-std-00012345\.npy': expected float32 \(8, 4, 4\)"):
        latents.moments(np.array([0, 5]))
    (repa / LAST).unlink()
    with pytest.raises(DataError, match=r"cannot read the array .*img-mean-std-00012345\.npy': there is no such file"):
        latents.moments(np.array([0, 5]))
    assert latents.images is not None
    noise(16, 32, 0).save(repa / "images/00012/img00012345.png")
    with pytest.raises(DataError, match=r"wrong image .*img00012345\.png': got 32x16 pixels, expected 32x32"):
        latents.images(np.array([5]))
    (repa / "images/00012/img00012345.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot decode image .*img00012345\.png"):
        latents.images(np.array([5]))
    assert np.array_equal(latents.moments(np.array([4])), [repa_moments(1001)])


# ---- drawing ----------------------------------------------------------------------------------------------


def test_sample_moments() -> None:
    rng = np.random.default_rng(0)
    moments, eps = rng.standard_normal((2, 6, 4, 5), np.float32), rng.standard_normal((2, 3, 4, 5), np.float32)
    scale, bias = (0.5, 0.25, 2.0), (0.0, -1.0, 3.0)
    expected = np.empty((2, 3, 4, 5))
    for n, c, y, x in np.ndindex(2, 3, 4, 5):
        mean, std = float(moments[n, c, y, x]), float(moments[n, 3 + c, y, x])
        expected[n, c, y, x] = (mean + std * float(eps[n, c, y, x])) * scale[c] + bias[c]
    z = sample_moments(torch.from_numpy(moments), torch.from_numpy(eps), scale, bias)
    assert z.dtype == torch.float32
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-5, atol=1e-6)
    tensors = sample_moments(*(torch.from_numpy(a) for a in (moments, eps)), torch.tensor(scale), torch.tensor(bias))
    assert torch.equal(tensors, z)
