"""Arrays in many files, item by item: the right one, or the name of the file that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drun.errors import DataError
from dtrain.data.items import ArrayFiles, Names, Pictures, is_array, read_header
from dtrain.data.scanning import fingerprint, scan
from dtrain.data.shards import Shards, save_shard, shard_path, shard_rows

#: Seven items, three a shard.
ITEMS = np.random.default_rng(0).integers(0, 256, (7, 2, 5), dtype=np.uint8)
ORDER = np.array([6, 0, 3, 3, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shard in range(3):
        save_shard(tmp_path, "images", shard, ITEMS[3 * shard : 3 * shard + 3])
    return tmp_path


def opened(folder: Path) -> Shards:
    return Shards.open(folder, "images", 3, 7, (2, 5), np.uint8)


def test_items_come_in_the_order_that_is_asked_for(folder: Path) -> None:
    shards = opened(folder)
    np.testing.assert_array_equal(shards.read(ORDER), ITEMS[ORDER])
    assert shards.read(ORDER[:0]).shape == (0, 2, 5)
    assert shards.where(5) == f"row 2 of '{folder / 'images-00001.npy'}'"


@pytest.mark.parametrize(("num_items", "rows"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2]), (0, [])])
def test_the_last_shard_holds_what_is_left(num_items: int, rows: list[int]) -> None:
    assert shard_rows(num_items, 3) == rows


def test_a_changed_byte_names_its_row(folder: Path) -> None:
    shards, path = opened(folder), shard_path(folder, "images", 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(shards.read(np.array([3])), ITEMS[3:4])
    with pytest.raises(DataError, match=r"images-00001.npy': the checksum of row 2 is wrong; delete it and encode"):
        shards.read(np.array([5]))


def test_shards_that_do_not_fit_are_named(folder: Path) -> None:
    np.save(shard_path(folder, "images", 1), ITEMS[:2])
    with pytest.raises(DataError, match=r"00001.npy': got uint8 \(2, 2, 5\), expected uint8 \(3, 2, 5\)"):
        opened(folder)
    shard_path(folder, "images", 1).unlink()
    with pytest.raises(DataError, match=r"images-00001\.npy"):
        opened(folder)


def test_a_header_is_of_a_whole_array_in_c_order(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ITEMS)
    header = read_header(path)
    assert (header.shape, header.dtype, str(header)) == ((7, 2, 5), np.uint8, "uint8 (7, 2, 5)")
    assert path.read_bytes()[header.offset :] == ITEMS.tobytes()
    assert is_array(path, (7, 2, 5), "uint8")
    assert not is_array(path, (7, 2, 5), "float32")
    assert not is_array(tmp_path / "none.npy", (7, 2, 5), "uint8")
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_array(path, (7, 2, 5), "uint8")
    np.save(path, np.asfortranarray(ITEMS))
    with pytest.raises(DataError, match="it is in Fortran order, expected C order; encode it again"):
        read_header(path)


def test_one_array_a_file(tmp_path: Path) -> None:
    names = [f"{i}-ä.npy" for i in range(7)]
    for name, item in zip(names, ITEMS, strict=True):
        np.save(tmp_path / name, item)
    files = ArrayFiles(Names.of(tmp_path, names), read_header(tmp_path / names[0]))
    np.testing.assert_array_equal(files.read(ORDER), ITEMS[ORDER])
    assert files.where(3) == f"'{tmp_path / '3-ä.npy'}'"
    np.save(tmp_path / names[3], ITEMS[3].astype(np.int8))
    with pytest.raises(DataError, match=r"wrong array '.*3-ä\.npy': expected uint8 \(2, 5\), as in '.*0-ä\.npy'"):
        files.read(ORDER)


def test_one_picture_a_file(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    Image.new("RGB", (4, 5)).save(tmp_path / "b.png")
    pictures = Pictures(Names.of(tmp_path, ["a.png", "b.png"]), 4)
    np.testing.assert_array_equal(pictures.read(np.array([0, 0])), np.full((2, 4, 4, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"wrong image '.*b\.png': got 4x5 pixels, expected 4x4, as its latent has"):
        pictures.read(np.array([1]))


def test_a_folder_is_looked_through_and_its_fingerprint_follows_names_and_times(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "x.NPY").write_bytes(b"12345")
    for name in (".hidden.npy", "note.txt"):
        (folder / name).write_text("")
    found = scan(folder, (".npy",))
    assert {"deep/er/x.NPY", "images-00000.npy", "crc32-images-00002.npy"} < set(found)
    assert len(found) == 7
    assert fingerprint(found) == fingerprint(dict(reversed(found.items())))
    size, time_ns = found["deep/er/x.NPY"]
    assert fingerprint(found) != fingerprint(found | {"deep/er/x.NPY": (size, time_ns + 1)})
    assert fingerprint(found, {}) != fingerprint(found)
