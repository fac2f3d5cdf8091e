"""Image sources and their cache."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drun.errors import ConfigError, DataError
from dtrain.data.pixels import load_images

Pixels = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of 8x8 in three formats and two levels, and things that are no images."""
    root = tmp_path / "pictures"
    (root / "b").mkdir(parents=True)
    Image.fromarray(noise(8, 8, 3, seed=1)).save(root / "a.PNG")
    Image.fromarray(noise(8, 8, 3, seed=2)).save(root / "b" / "c.bmp")
    np.save(root / "b" / "d.npy", noise(2, 8, 8, 3, seed=3))
    (root / "readme.txt").write_text("no image")
    (root / "._a.png").write_bytes(b"resource fork")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own one for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DEXPORT_CACHE", str(folder))
    return folder


def refuses(source: str | Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(source, 8, 3)
    assert not list(Path(os.environ["DEXPORT_CACHE"]).rglob("images.npy"))


# ---- sources --------------------------------------------------------------------------------------------


def test_folder_is_read_recursively_in_sorted_order(folder: Path, tmp_path: Path) -> None:
    images = load_images(folder, 8, 3)
    expected = [noise(8, 8, 3, seed=1), noise(8, 8, 3, seed=2), *noise(2, 8, 8, 3, seed=3)]
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    assert np.array_equal(images, expected)


def test_grey_levels_and_colours_convert_into_each_other(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    Image.fromarray(noise(8, 8)).save(root / "grey.png")
    flat(8, 8, (255, 0, 0)).save(root / "red.png")
    colour = load_images(root, 8, 3)
    grey = load_images(root, 8, 1)
    assert colour.shape == (2, 8, 8, 3)
    assert np.array_equal(colour[0], np.repeat(noise(8, 8)[..., None], 3, axis=-1))
    assert grey.shape == (2, 8, 8, 1)
    assert np.array_equal(grey[0, ..., 0], noise(8, 8))
    assert (grey[1] == 76).all()  # luma of pure red, ITU-R 601


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".tiff", ".JPEG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "pictures").mkdir()
    flat(20, 30, (10, 120, 240)).save(tmp_path / "pictures" / f"x{suffix}")
    images = load_images(tmp_path / "pictures", 8, 3)
    assert np.abs(images.astype(int) - (10, 120, 240)).max() <= 4


def test_16_bit_grey_levels_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    levels = np.full((8, 8), 0x8000, np.uint16)
    levels[0, 0] = 0xFFFF
    Image.fromarray(levels).save(tmp_path / "pictures" / "x.png")
    images = load_images(tmp_path / "pictures", 8, 1)
    assert images[0, 0, 0] == 255
    assert images[0, 4, 4] == 128


def test_images_are_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    Image.fromarray(pixels).save(tmp_path / "pictures" / "x.png", exif=exif)
    images = load_images(tmp_path / "pictures", 8, 3)
    assert np.array_equal(images[0], pixels[::-1])


def test_odd_metadata_are_no_warnings(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    flat(8, 8, (9, 9, 9)).save(tmp_path / "pictures" / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    assert np.abs(load_images(tmp_path / "pictures", 8, 3).astype(int) - 9).max() <= 2


def test_zip_is_read_in_place(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.zip"
    flat(9, 9, (1, 2, 3)).save(tmp_path / "z.tif")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(folder / "b" / "c.bmp", "../../outside/c.bmp")
        file.write(folder / "a.PNG", "a.PNG")
        file.write(tmp_path / "z.tif", "z.tif")
        file.writestr("dataset.json", "{}")
        file.writestr("__MACOSX/a.png", "resource fork")
    before = sorted(tmp_path.rglob("*"))
    images = load_images(archive, 8, 3)
    assert np.array_equal(images[:2], [noise(8, 8, 3, seed=2), noise(8, 8, 3, seed=1)])
    assert (images[2] == (1, 2, 3)).all()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("shape", "channels"), [((5, 8, 8, 3), 3), ((5, 8, 8), 1), ((5, 8, 8, 1), 1)])
def test_stack_of_the_right_shape_is_mapped_as_it_is(
    tmp_path: Path, cache: Path, shape: tuple[int, ...], channels: int
) -> None:
    np.save(tmp_path / "x.npy", noise(*shape))
    images = load_images(tmp_path / "x.npy", 8, channels)
    assert isinstance(images, np.memmap)
    assert np.array_equal(images, noise(*shape).reshape(5, 8, 8, channels))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("shape", [(2, 20, 30, 3), (2, 20, 30)])
def test_other_stacks_are_resized(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.full(shape, 77, np.uint8))
    images = load_images(str(tmp_path / "x.npy"), 8, 3)
    assert images.shape == (2, 8, 8, 3)
    assert (images == 77).all()


# ---- errors ---------------------------------------------------------------------------------------------


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    flat(8, 8, (1, 2, 3)).save(tmp_path / "one.png")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("notes.txt", "hello")
    refuses(tmp_path / "empty", "no images in folder '.*empty': expected names in .png")
    refuses(tmp_path / "missing", "no such file or folder .*missing")
    refuses(tmp_path / "missing.npy", "no such file or folder .*missing.npy")
    refuses(tmp_path / "missing.zip", "cannot read the zip file .*missing.zip': there is no such file")
    refuses(tmp_path / "notes.txt", "got the file '.*notes.txt', expected a folder, a .zip")
    refuses(tmp_path / "one.png", "cut one large image with dtrain tiles")
    refuses(tmp_path / "bad.zip", "cannot read the zip file .*bad.zip': File is not a zip file")
    refuses(tmp_path / "none.zip", "no images in the zip file .*none.zip")


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_truncated_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    path = folder / name
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuses(folder, f"cannot decode image .*{name}': .*truncated.*repair or remove it")


def test_file_that_is_no_image_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "fake.png").write_text("hello")
    refuses(folder, "cannot decode image .*fake.png': unknown format, expected PNG")


def test_broken_zip_entry_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    Image.fromarray(noise(32, 32, 3)).save(tmp_path / "x.png")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "x.png", "inner/x.png")
    content = bytearray(archive.read_bytes())
    content[1000] ^= 0xFF
    archive.write_bytes(content)
    refuses(archive, r"cannot decode image 'inner/x.png' in '.*x.zip': Bad CRC-32")


def test_32_bit_image_is_refused(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(folder / "float.tif")
    refuses(folder, "float.tif': got 32-bit values .* expected 8 or 16 bits")


def test_oversized_image_is_sent_to_tiles(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert len(load_images(folder, 8, 3)) == 4
    Image.new("1", (20_000, 20_000)).save(folder / "large.png")
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "another"))
    refuses(folder, "has 20000x20000 pixels, expected at most .*: cut it with dtrain tiles")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"got float32 \(2, 8, 8, 3\), expected uint8"),
        (np.zeros((8, 8), np.uint8), r"got uint8 \(8, 8\), expected uint8 \(N, H, W\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got uint8 \(2, 8, 8, 4\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"got uint8 \(0, 8, 8, 3\)"),
        (np.array([{"a": 1}], dtype=object), "it holds object, expected numbers"),
    ],
)
def test_wrong_stack(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    refuses(tmp_path / "x.npy", message)
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.npy").rename(tmp_path / "folder" / "x.npy")
    refuses(tmp_path / "folder", message)


def test_damaged_stack(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise(4, 8, 8, 3))
    content = (tmp_path / "x.npy").read_bytes()
    for cut in (0, 5, 100, len(content) - 1):
        (tmp_path / "x.npy").write_bytes(content[:cut])
        refuses(tmp_path / "x.npy", "cannot read the array .*x.npy")
    np.savez(tmp_path / "x.npz", noise(4, 8, 8, 3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    refuses(tmp_path / "x.npy", "cannot read the array .*x.npy")


@pytest.mark.parametrize(("image_size", "channels"), [(8, 2), (0, 3)])
def test_impossible_format(folder: Path, tmp_path: Path, image_size: int, channels: int) -> None:
    with pytest.raises(ConfigError, match=f"got image_size {image_size}, channels {channels}, expected"):
        load_images(folder, image_size, channels)


# ---- the cache ------------------------------------------------------------------------------------------


def written(cache: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of each file that was decoded."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.glob("*/images.npy")}


def test_images_are_decoded_once_for_all_runs_until_the_source_changes(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_images(folder, 8, 3)
    before = written(cache)
    monkeypatch.chdir(folder.parent)
    assert np.array_equal(load_images("pictures", 8, 3), first)
    assert written(cache) == before

    Image.fromarray(noise(8, 8, 3, seed=9)).save(folder / "a.PNG")
    changed = load_images(folder, 8, 3)
    assert np.array_equal(changed[0], noise(8, 8, 3, seed=9))
    assert np.array_equal(first[0], noise(8, 8, 3, seed=1))

    (folder / "b" / "c.bmp").unlink()
    assert len(load_images(folder, 8, 3)) == 3
    assert load_images(folder, 4, 3).shape == (3, 4, 4, 3)
    assert load_images(folder, 4, 1).shape == load_images(folder, 4, 1).shape == (3, 4, 4, 1)
    assert len(written(cache)) == 5


def test_two_folders_of_equal_names_sizes_and_times_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for name, grey in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        flat(8, 8, (grey, grey, grey)).save(tmp_path / name / "x.bmp")
        os.utime(tmp_path / name / "x.bmp", ns=(0, 0))  # as archives that can be reproduced have it
    assert [int(load_images(tmp_path / name, 8, 1)[0, 0, 0, 0]) for name in ("a", "b")] == [10, 20]


def test_cache_notices_a_new_time_stamp(folder: Path, cache: Path) -> None:
    load_images(folder, 8, 3)
    os.utime(folder / "a.PNG", ns=(0, 0))
    load_images(folder, 8, 3)
    assert len(written(cache)) == 2


@pytest.mark.parametrize("damage", ["array", "byte", "no record"])
def test_damaged_cache_is_made_again(folder: Path, cache: Path, damage: str) -> None:
    first = np.array(load_images(folder, 8, 3))
    (file,) = written(cache)
    if damage == "array":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "byte":
        file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    else:
        file.with_name("entry.json").unlink()
    assert np.array_equal(load_images(folder, 8, 3), first)


def test_failure_leaves_no_cache_that_could_pass_for_another(folder: Path, cache: Path) -> None:
    load_images(folder, 8, 3)
    before = written(cache)
    (folder / "e.png").write_text("broken")
    with pytest.raises(DataError, match=r"e\.png"):
        load_images(folder, 8, 3)
    assert written(cache) == before
    (folder / "e.png").unlink()
    assert len(load_images(folder, 8, 3)) == 4


def test_cache_inside_the_source_would_be_trained_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEXPORT_CACHE", str(folder / "kept"))
    refuses(folder, "would take in the cache .*: set DEXPORT_CACHE to another folder")
    monkeypatch.setenv("DEXPORT_CACHE", str(folder / ".cache"))
    assert len(load_images(folder, 4, 3)) == len(load_images(folder, 8, 3)) == 4
