"""Tiles: where they are cut, which are dropped, and that no source is on both sides of the split."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drun.errors import ConfigError, DataError
from dtrain.data.tiles import cut_tiles


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(path: Path, height: int = 16, width: int = 16, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, 3, seed=seed)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "tiles"


# ---- where tiles are cut --------------------------------------------------------------------------------


def test_one_image(tmp_path: Path, out: Path) -> None:
    summary = cut_tiles(picture(tmp_path / "forest.png", 20, 27), out, size=8)
    assert names(out / "train") == [f"forest-{y}-{x}.png" for y in (0, 8) for x in (0, 16, 8)]
    assert np.array_equal(pixels(out / "train" / "forest-8-16.png"), noise(20, 27, 3)[8:16, 16:24])
    assert (summary.num_sources, summary.num_train, summary.num_holdout, summary.num_blank) == (1, 6, 0, 0)
    assert names(out) == ["holdout", "tiles.json", "train"]
    assert names(out.parent) == ["tiles"]


def test_overlap_moves_tiles_closer(tmp_path: Path, out: Path) -> None:
    cut_tiles(picture(tmp_path / "x.png", 8, 16), out, size=8, overlap=6)
    assert names(out / "train") == sorted(f"x-0-{x}.png" for x in (0, 2, 4, 6, 8))
    assert np.array_equal(pixels(out / "train" / "x-0-6.png"), noise(8, 16, 3)[:, 6:14])


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
def test_folders_are_searched(tmp_path: Path, out: Path, suffix: str) -> None:
    picture(tmp_path / "in" / "a" / f"x{suffix}")
    picture(tmp_path / "in" / "b" / f"y{suffix.upper()}")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    summary = cut_tiles(tmp_path / "in", out, size=16, holdout=0)
    assert names(out / "train") == ["x-0-0.png", "y-0-0.png"]
    assert (summary.num_sources, summary.note) == (2, "")


def test_stack(tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "run.npy", noise(3, 8, 16, 3))
    cut_tiles(str(tmp_path / "run.npy"), str(out), size=8)
    expected = [f"run-{frame:06d}-0-{x}.png" for frame in range(3) for x in (0, 8)]
    assert names(out / "train") == expected
    assert np.array_equal(pixels(out / "train" / "run-000002-0-8.png"), noise(3, 8, 16, 3)[2, :, 8:])


def test_grey_images_stay_grey(tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "run.npy", noise(1, 8, 8))
    cut_tiles(tmp_path / "run.npy", out, size=8)
    assert np.array_equal(pixels(out / "train" / "run-000000-0-0.png"), noise(8, 8))


def test_names_never_collide(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "in"
    for seed, name in enumerate(["a/x.png", "b/x.png", "b/x_2.png", "c/X.png", "run-000000.png"]):
        picture(root / name, seed=seed)
    np.save(root / "run.npy", noise(1, 16, 16, 3, seed=9))
    summary = cut_tiles(root, out, size=8, holdout=0)
    assert summary.num_train == 6 * 4
    assert len({name.casefold() for name in names(out / "train")}) == 6 * 4
    found = {pixels(path).tobytes() for path in (out / "train").iterdir()}
    assert len(found) == 6 * 4


def test_images_above_pillows_pixel_limit(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "x.tif", 40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert cut_tiles(tmp_path / "in", out, size=20).num_train == 4
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pixel_limit_is_back_after_an_error(tmp_path: Path, out: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    (tmp_path / "x.png").write_text("broken")
    with pytest.raises(DataError, match=r"x\.png"):
        cut_tiles(tmp_path / "x.png", out)
    assert Image.MAX_IMAGE_PIXELS == limit is not None


def test_images_above_our_own_limit(tmp_path: Path, out: Path) -> None:
    Image.new("1", (33_000, 33_000)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png' has 33000x33000 pixels, expected at most 1,073,741,824"):
        cut_tiles(tmp_path / "x.png", out)


# ---- what is dropped ------------------------------------------------------------------------------------


def test_blank_tiles_are_dropped(tmp_path: Path, out: Path) -> None:
    image = noise(8, 32, 3)
    image[:, :8] = 200
    image[:, 8:16] = 100 + np.arange(8)[:, None, None] // 4  # standard deviation 0.5
    Image.fromarray(image).save(tmp_path / "x.png")
    summary = cut_tiles(tmp_path / "x.png", out, size=8)
    assert names(out / "train") == ["x-0-16.png", "x-0-24.png"]
    assert summary.num_blank == 2
    assert cut_tiles(tmp_path / "x.png", tmp_path / "second", size=8, min_std=0.4).num_blank == 1
    assert cut_tiles(tmp_path / "x.png", tmp_path / "third", size=8, min_std=0).num_blank == 0


def test_small_images_are_skipped_and_named(tmp_path: Path, out: Path) -> None:
    picture(tmp_path / "in" / "large.png", 8, 8)
    picture(tmp_path / "in" / "small.png", 8, 7)
    summary = cut_tiles(tmp_path / "in", out, size=8)
    assert (summary.num_sources, summary.num_train, summary.num_too_small) == (2, 1, 1)
    rows = {row["source"]: row for row in json.loads((out / "tiles.json").read_text())["sources"]}
    assert rows["small.png"] == {
        "source": "small.png",
        "split": None,
        "num_tiles": 0,
        "num_blank": 0,
        "num_too_small": 1,
    }


def test_no_tile_left(tmp_path: Path, out: Path) -> None:
    picture(tmp_path / "in" / "small.png", 8, 8)
    Image.new("RGB", (16, 16)).save(tmp_path / "in" / "black.png")
    message = r"no tile left of .*: images smaller than 16x16 pixels: 1, blank tiles .*: 1; lower the size"
    with pytest.raises(DataError, match=message):
        cut_tiles(tmp_path / "in", out, size=16)
    assert names(out.parent) == []


# ---- the hold-out ---------------------------------------------------------------------------------------


def split_of(tiles: list[str]) -> set[str]:
    return {name.rsplit("-", 2)[0] for name in tiles}


@pytest.mark.parametrize(("holdout", "expected"), [(0, 0), (0.01, 1), (0.25, 2), (0.5, 5), (0.99, 9)])
def test_whole_sources_are_held_out(tmp_path: Path, out: Path, holdout: float, expected: int) -> None:
    for seed in range(10):
        picture(tmp_path / "in" / f"x{seed}.png", seed=seed)
    summary = cut_tiles(tmp_path / "in", out, size=8, holdout=holdout)
    train, held_out = split_of(names(out / "train")), split_of(names(out / "holdout"))
    assert (len(train), len(held_out)) == (10 - expected, expected)
    assert train | held_out == {f"x{seed}" for seed in range(10)}
    assert (summary.num_train, summary.num_holdout) == (4 * (10 - expected), 4 * expected)
    rows = json.loads((out / "tiles.json").read_text())["sources"]
    assert {row["source"][:-4] for row in rows if row["split"] == "holdout"} == held_out


def test_frames_of_a_stack_stay_together(tmp_path: Path, out: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abcd":
        np.save(tmp_path / "in" / f"{name}.npy", noise(5, 8, 8, 3))
    cut_tiles(tmp_path / "in", out, size=8, holdout=0.25)
    assert len(names(out / "holdout")) == 5
    assert len({name[0] for name in names(out / "holdout")}) == 1


def test_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for seed in range(10):
        picture(tmp_path / "in" / f"x{seed}.png", seed=seed)
    splits = []
    for number, seed in enumerate((0, 0, 1, 2)):
        folder = tmp_path / f"out{number}"
        cut_tiles(tmp_path / "in", folder, size=8, holdout=0.4, seed=seed)
        splits.append(names(folder / "holdout"))
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] or splits[0] != splits[3]


def test_sources_without_tiles_do_not_count_for_the_split(tmp_path: Path, out: Path) -> None:
    for seed in range(2):
        picture(tmp_path / "in" / f"x{seed}.png", seed=seed)
    for number in range(8):
        Image.new("RGB", (16, 16)).save(tmp_path / "in" / f"black{number}.png")
    summary = cut_tiles(tmp_path / "in", out, size=8, holdout=0.5)
    assert (summary.num_train, summary.num_holdout, summary.num_blank) == (4, 4, 32)


def test_a_single_source_is_never_held_out_and_the_summary_says_so(tmp_path: Path, out: Path) -> None:
    summary = cut_tiles(picture(tmp_path / "x.png"), out, size=8, holdout=0.9)
    assert (summary.num_train, summary.num_holdout) == (4, 0)
    assert summary.note == "hold-out is empty: only one file has tiles, and the split is by file"
    assert names(out / "holdout") == []
    assert json.loads((out / "tiles.json").read_text())["counts"]["note"] == summary.note


# ---- the record and the folder --------------------------------------------------------------------------


def test_record(tmp_path: Path, out: Path) -> None:
    picture(tmp_path / "in" / "a" / "x.png", 8, 8)
    summary = cut_tiles(tmp_path / "in", out, size=8, overlap=2, holdout=0.2, min_std=1.5, seed=3)
    record = json.loads((out / "tiles.json").read_text())
    assert record["settings"] == {"size": 8, "overlap": 2, "holdout": 0.2, "min_std": 1.5, "seed": 3}
    assert record["counts"] == asdict(summary)
    assert [row["source"] for row in record["sources"]] == ["a/x.png"]
    assert str(tmp_path) not in (out / "tiles.json").read_text()


def test_an_empty_output_folder_is_used(tmp_path: Path, out: Path) -> None:
    out.mkdir(parents=True)
    assert cut_tiles(picture(tmp_path / "x.png"), out, size=8).num_train == 4


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_existing_output_is_refused_untouched(tmp_path: Path, out: Path, kind: str) -> None:
    precious = out / "precious.txt" if kind == "folder" else out
    precious.parent.mkdir(parents=True)
    precious.write_text("keep me")
    with pytest.raises(DataError, match="is not an empty folder"):
        cut_tiles(picture(tmp_path / "x.png"), out, size=8)
    assert precious.read_text() == "keep me"


def test_broken_image_leaves_nothing_behind(tmp_path: Path, out: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    broken = picture(tmp_path / "in" / "b.png", 64, 64)
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cannot decode image .*b\.png': .*truncated"):
        cut_tiles(tmp_path / "in", out, size=8)
    assert names(out.parent) == []


def test_missing_sources(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no such file or folder .*missing"):
        cut_tiles(tmp_path / "missing", out)
    with pytest.raises(DataError, match=r"no images in folder .*empty"):
        cut_tiles(tmp_path / "empty", out)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "got size 0, overlap 0"),
        ({"size": 8, "overlap": 8}, "got size 8, overlap 8, expected 0 <= overlap < size"),
        ({"overlap": -1}, "got size 128, overlap -1"),
        ({"holdout": 1.0}, "got 1.0, expected 0 <= holdout < 1"),
        ({"min_std": -1.0}, "got -1.0, expected at least 0"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, out: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cut_tiles(tmp_path, out, **settings)
