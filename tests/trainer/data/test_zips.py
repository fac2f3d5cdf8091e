"""A zip of images gives what was put in, or one sentence."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from drun.errors import DataError
from dtrain.data.image_files import fit
from dtrain.data.pixels import load_images
from dtrain.data.sources import open_source
from dtrain.data.zips import open_zip

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def png(seed: int, side: int = 9) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(file, "PNG")
    return file.getvalue()


def pixels(seed: int, side: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_images_are_what_was_put_in(tmp_path: Path, method: int) -> None:
    members = {"b.png": png(1), "a/c.PNG": png(2), "folder.png/": b"", "notes.txt": b"no image"}
    found = open_zip(zipped(tmp_path / "x.zip", members, method))
    assert found.names == ["a/c.PNG", "b.png"]
    assert found.label_file is None
    for number, seed in enumerate((2, 1)):
        assert np.array_equal(np.asarray(found.read(number)), pixels(seed))


def refuses(path: Path, message: str) -> None:
    for read in (lambda: open_zip(path).read(0), lambda: load_images(path, 8, 3)):
        with pytest.raises(DataError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


def edited(path: Path, edit: dict[bytes, tuple[int, bytes]]) -> Path:
    """The file with bytes written at an offset from the first place of a mark, in every place of it."""
    content = bytearray(path.read_bytes())
    for mark, (offset, value) in edit.items():
        at = content.find(mark)
        while at >= 0:
            content[at + offset : at + offset + len(value)] = value
            at = content.find(mark, at + 1)
    path.write_bytes(content)
    return path


# In a local header flags stand at byte 6 and the method at 8, in the directory at 8 and 10.
LOCAL, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"
DAMAGE: list[tuple[dict[bytes, tuple[int, bytes]], str]] = [
    ({LOCAL: (6, b"\x01\x00"), DIRECTORY: (8, b"\x01\x00")}, "cannot decode image 'a.png' in '.*x.zip': .*encrypted"),
    ({LOCAL: (8, b"\x63\x00"), DIRECTORY: (10, b"\x63\x00")}, "cannot decode image 'a.png' .*compression"),
    ({LOCAL: (8, b"\x0e\x00"), DIRECTORY: (10, b"\x0e\x00")}, "cannot decode image 'a.png'"),
    ({LOCAL: (8, b"\x0c\x00"), DIRECTORY: (10, b"\x0c\x00")}, "cannot decode image 'a.png'"),
    ({LOCAL: (8, b"\x08\x00"), DIRECTORY: (10, b"\x08\x00")}, "cannot decode image 'a.png'"),
    ({DIRECTORY: (16, b"\0\0\0\0")}, "cannot decode image 'a.png' in .*: Bad CRC-32"),
    ({DIRECTORY: (6, b"\xff\xff")}, "cannot read the zip file '.*x.zip': .*; copy it again"),
    ({DIRECTORY: (42, b"\xff\xff\xff\x7f")}, "x.zip"),
]


@pytest.mark.parametrize(("edit", "message"), DAMAGE)
def test_members_that_cannot_be_read(tmp_path: Path, edit: dict[bytes, tuple[int, bytes]], message: str) -> None:
    refuses(edited(zipped(tmp_path / "x.zip", {"a.png": png(1)}), edit), message)


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    edit = {LOCAL: (6, b"\x01\x00"), DIRECTORY: (8, b"\x01\x00")}
    path = edited(zipped(tmp_path / "x.zip", {"dataset.json": b"{}", "a.png": png(1)}), edit)
    with pytest.raises(DataError, match=r"cannot read the zip file '.*x\.zip': .*encrypted"):
        open_source(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.png", "dataset.json"])
def test_two_members_of_one_name(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": png(1), "dataset.json": b"{}"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, png(2))
    refuses(path, "cannot read the zip file .*: two of its members have one name")


def test_a_member_that_expands_a_lot(tmp_path: Path) -> None:
    content = png(1) + bytes(70_000_000)
    refuses(zipped(tmp_path / "x.zip", {"a.png": content}, zipfile.ZIP_DEFLATED), r"its [\d,]+ bytes expand to 70,000,")


def test_names_that_end_early(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png_b.png": png(1)})
    path.write_bytes(path.read_bytes().replace(b"a.png_b.png", b"a.png\0b.png"))
    with suppress(DataError):
        assert open_zip(path).names == ["a.png"]


def test_a_zip_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    refuses(tmp_path / "folder.zip", "cannot read the zip file .*: it is a folder, expected a file")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_zip_gives_its_images_or_one_sentence(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    labels = b'{"labels": [["a.png", 1], ["b.png", 0]]}'
    members = {"a.png": png(1), "b.png": png(2), "dataset.json": labels}
    content = bytearray(zipped(path, members, data.draw(st.sampled_from(METHODS))).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) or None])
    with suppress(DataError):
        source = open_source(path)
        source.labels()
        source.look(0)
        for number, name in enumerate(source.names):
            got, seed = fit(source.read(number), 9, 3), {"a.png": 1, "b.png": 2}.get(name)
            assert seed is None or np.array_equal(got, pixels(seed))  # the checksum holds, or it was refused


def test_the_directory_may_lie_about_sizes(tmp_path: Path) -> None:
    path = edited(zipped(tmp_path / "x.zip", {"a.png": png(1)}), {DIRECTORY: (24, struct.pack("<I", 1 << 31))})
    refuses(path, r"cannot decode image 'a.png' in .*: its [\d,]+ bytes expand to 2,147,483,648")
