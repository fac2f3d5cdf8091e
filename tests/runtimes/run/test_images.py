"""Pixels, files and sheets."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drun.errors import UserError
from drun.run import images

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (-1.0, 0),
        (1.0, 255),
        (-7.0, 0),
        (7.0, 255),
        (0.0, 128),  # 127.5 goes to the even neighbour
        (100 / 127.5 - 1, 100),
        (100.4 / 127.5 - 1, 100),
        (100.6 / 127.5 - 1, 101),
        (254.6 / 127.5 - 1, 255),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_level(value: float, level: int, dtype: type) -> None:
    assert images.to_uint8(np.full((1, 1, 1, 1), value, dtype)).item() == level


def test_channels_go_last() -> None:
    levels = pixels(2, 3, 4, 5)
    got = images.to_uint8(levels.astype(np.float32) / 127.5 - 1)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, levels.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(tmp_path: Path, channels: int) -> None:
    image = pixels(7, 5, channels)
    images.write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.read_png(tmp_path / "a.png"), image)
    with Image.open(tmp_path / "a.png") as file:
        assert (file.format, file.mode, file.size) == ("PNG", "L" if channels == 1 else "RGB", (5, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "missing"])
def test_a_broken_png_is_a_user_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    images.write_png(path, pixels(30, 30, 3))
    data = {"cut": path.read_bytes()[:-500], "text": b"hello", "empty": b"", "missing": b""}[kind]
    path.write_bytes(data)
    if kind == "missing":
        path.unlink()
    with pytest.raises(UserError, match=r"image '.*a.png' is broken: .+; delete it and run again"):
        images.read_png(path)


@pytest.mark.parametrize(
    ("count", "columns", "rows_columns"),
    [(1, None, (1, 1)), (4, None, (2, 2)), (5, None, (2, 3)), (16, None, (4, 4)), (5, 5, (1, 5)), (3, 2, (2, 2))],
)
@pytest.mark.parametrize("size", [(64, 64), (40, 50), (8, 8), (100, 70)])
def test_grid(count: int, columns: int | None, rows_columns: tuple[int, int], size: tuple[int, int]) -> None:
    """Every image is found in reading order, enlarged so that its shorter side has at least 64 pixels."""
    tiles = pixels(count, *size, 3)
    tiles[tiles == 255] = 254
    sheet = images.grid(tiles, columns)
    scale = next(s for s in range(1, 100) if min(size) * s >= 64)
    rows, cols = rows_columns
    height, width = size[0] * scale, size[1] * scale
    assert sheet.shape == (rows * (height + 2) + 2, cols * (width + 2) + 2, 3)
    expected = np.full_like(sheet, 255)
    for i in range(count):
        top, left = 2 + i // cols * (height + 2), 2 + i % cols * (width + 2)
        expected[top : top + height, left : left + width] = np.kron(tiles[i], np.ones((scale, scale, 1), np.uint8))
    np.testing.assert_array_equal(sheet, expected)


def ink(picture: np.ndarray) -> int:
    """Dark pixels."""
    return int((picture < 128).sum())


def test_a_grid_writes_names_below_its_images() -> None:
    tiles = np.full((3, 16, 16, 3), 200, np.uint8)
    named = images.grid(tiles, 2, names=["coat", "", "a name that is wider than its image by far"])
    assert named.shape == (2 * (64 + 18 + 2) + 2, 2 * (64 + 2) + 2, 3)
    lines = named[2 + 64 : 2 + 64 + 18], named[2 + 84 + 64 : -2]
    assert ink(lines[0][:, :68]) > 0 == ink(lines[0][:, 68:])
    assert ink(lines[1][:, :66]) > 0 == ink(lines[1][:, 66:])
    images_only = np.concatenate([named[: 2 + 64], named[2 + 64 + 18 : 2 + 84 + 64], named[-2:]])
    np.testing.assert_array_equal(images_only, images.grid(tiles, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_beside_each_other_are_below_their_names(channels: int) -> None:
    left, right = pixels(1, 70, 40, channels)[0], pixels(1, 70, 200, channels)[0]
    sheet = images.beside({"a name wider than 40 pixels": left, "EMA": right})
    width = sheet.shape[1] - 200
    assert sheet.shape == (18 + 70, width + 200, channels)
    assert width > 100
    np.testing.assert_array_equal(sheet[18:, :40], left)
    np.testing.assert_array_equal(sheet[18:, width:], right)
    assert (sheet[18:, 40:width] == 255).all()
    assert ink(sheet[:18, 40:width]) > 0 < ink(sheet[:18, width:])


@pytest.mark.parametrize("name", ["two\nlines", "\udcff", "服", "\0", "\u202eright to left"])
def test_any_name_of_a_folder_can_be_written(name: str) -> None:
    assert images.grid(pixels(1, 16, 16, 1), names=[name]).shape == (64 + 18 + 4, 68, 1)


# --- npz


def test_a_streamed_npz_is_the_file_that_numpy_writes(tmp_path: Path) -> None:
    """To the byte."""
    arrays = {"arr_0": pixels(6, 5, 4, 3), "arr_1": np.arange(6), "x": RNG.standard_normal((6, 3)).astype(np.float32)}
    rows: dict[str, images.Rows] = {
        "arr_0": ((6, 5, 4, 3), np.uint8, iter(arrays["arr_0"])),
        "arr_1": ((6,), np.int64, [arrays["arr_1"]]),
        "x": ((6, 3), "float32", (row.astype(np.float64) for row in arrays["x"])),
    }
    images.write_npz(tmp_path / "a.npz", rows)
    np.savez(tmp_path / "b.npz", **arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["arr_0"].dtype == np.uint8
        assert all(np.array_equal(file[name], array) for name, array in arrays.items())


def test_rows_that_are_no_contiguous_arrays(tmp_path: Path) -> None:
    array = RNG.standard_normal((4, 5, 6))
    images.write_npz(tmp_path / "a.npz", {"x": ((4, 6, 5), np.float64, (row.T for row in array))})
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["x"], array.transpose(0, 2, 1))


def test_an_npz_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    def rows() -> Any:
        yield np.zeros((2, 2), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.write_npz(tmp_path / "a.npz", {"x": ((2, 2, 2), np.uint8, rows())})
    assert list(tmp_path.iterdir()) == []


def test_writing_an_npz_holds_one_row_at_a_time(tmp_path: Path) -> None:
    row_bytes = 64 * 64 * 3
    tracemalloc.start()
    rows = (np.full((64, 64, 3), i % 256, np.uint8) for i in range(500))
    images.write_npz(tmp_path / "a.npz", {"arr_0": ((500, 64, 64, 3), np.uint8, rows)})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "a.npz").stat().st_size > 500 * row_bytes
    assert peak_bytes < 50 * row_bytes


def test_images_of_a_folder_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    written = pixels(12, 4, 4, 3)
    for i, image in enumerate(written):
        images.write_png(images.image_path(tmp_path, i), image)
    read = [images.read_png(path) for path in sorted(tmp_path.iterdir())]
    np.testing.assert_array_equal(np.stack(read), written)
    assert images.image_path(tmp_path, 3).name == "000003.png"


@pytest.mark.parametrize(
    ("conversion", "level_of"),
    [
        ("round", lambda x: int(np.rint((x + 1) * 127.5))),
        ("floor", lambda x: int(127.5 * x + 127.5)),  # REPA: (x + 1) / 2 * 255, cut off
        ("adm", lambda x: int(127.5 * x + 128)),      # guided-diffusion, DiT and SiT
    ],
)  # fmt: skip
def test_conversions_of_the_papers(conversion: str, level_of: Callable[[float], int]) -> None:
    values = [-1.5, -1.0, -0.9973, -0.5, 0.0, 0.0019, 0.3, 0.999, 1.0, 1.2]
    x = np.array(values).reshape(1, 1, 1, -1)
    expected = [min(max(level_of(value), 0), 255) for value in values]
    assert images.to_uint8(x, conversion)[0, 0, :, 0].tolist() == expected


def test_repas_conversion_is_half_a_level_darker() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 1, 100, 100))
    means = {name: float(images.to_uint8(x, name).mean()) for name in images.CONVERSIONS}
    assert means["round"] - means["floor"] == pytest.approx(0.5, abs=0.02)
    assert means["adm"] == pytest.approx(means["round"], abs=0.02)
