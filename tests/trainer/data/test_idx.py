"""idx files give what was put in, or one sentence."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import DataError
from dtrain.data import idx
from dtrain.data.stacks import open_as_stack

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
Packer = Callable[[bytes], bytes]


def content_of(array: np.ndarray, kind: int = 8) -> bytes:
    """As http://yann.lecun.com/exdb/mnist says."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("array", [IMAGES, np.arange(7, dtype=np.uint8), np.zeros((2, 3, 4, 3), np.uint8)])
def test_arrays_are_what_was_put_in(tmp_path: Path, array: np.ndarray, pack: Packer) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(pack(content_of(array)))
    assert idx.read_sides(path) == array.shape
    assert np.array_equal(idx.read_idx(path), array)


# ---- which file -----------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(content_of(IMAGES))
    return folder


@pytest.mark.parametrize(
    ("names", "images", "labels"),
    [
        (
            ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz",
             "train-labels-idx1-ubyte.gz"],
            "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
        ),
        (["my-images-idx3-ubyte", "my-labels-idx1-ubyte.gz"], "my-images-idx3-ubyte", "my-labels-idx1-ubyte.gz"),
        (["train-images.idx3-ubyte", "train-images-idx3-ubyte.gz"], "train-images-idx3-ubyte.gz", None),
        (
            ["emnist-letters-test-images-idx3-ubyte", "emnist-letters-train-images-idx3-ubyte",
             "emnist-letters-train-labels-idx1-ubyte", "train-labels-idx1-ubyte"],
            "emnist-letters-train-images-idx3-ubyte", "emnist-letters-train-labels-idx1-ubyte",
        ),
        (["train-labels-idx1-ubyte", "images.png", "readme-images-idx3"], None, None),
    ],
)  # fmt: skip
def test_training_images_are_found_with_their_labels(
    tmp_path: Path, names: list[str], images: str | None, labels: str | None
) -> None:
    found = idx.find_images(touch(tmp_path, *names))
    assert (found.name if found else None) == images
    beside = idx.labels_beside(found) if found else None
    assert (beside.name if beside else None) == labels


def test_several_sets_of_images(tmp_path: Path) -> None:
    touch(tmp_path, "emnist-letters-train-images-idx3-ubyte", "emnist-digits-train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"holds several sets of images, 'emnist-digits-.*: name the file to train on"):
        idx.find_images(tmp_path)


# ---- as images with labels ------------------------------------------------------------------------------


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content_of(images), mtime=0))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(content_of(labels))
    return path


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 3)])
def test_images_and_labels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    path = write(tmp_path, images, np.array([3, 0, 1, 1, 9], np.uint8))
    for source in (path, tmp_path):
        stack = open_as_stack(source)
        assert stack is not None
        assert stack.shape == (shape[:3] if shape[3:] == (1,) else shape)
        assert np.array_equal(stack.images(), images.reshape(stack.shape))
        labels = stack.labels()
        assert labels is not None
        assert labels.tolist() == [3, 0, 1, 1, 9]


def test_images_without_labels(tmp_path: Path) -> None:
    stack = open_as_stack(touch(tmp_path, "train-images-idx3-ubyte"))
    assert stack is not None
    assert stack.labels() is None


def test_another_number_of_labels(tmp_path: Path) -> None:
    stack = open_as_stack(write(tmp_path, IMAGES, np.zeros(4, np.uint8)))
    assert stack is not None
    with pytest.raises(DataError, match=r"labels-.*' holds uint8 \(4,\), expected a whole number for each of the 5"):
        stack.labels()


def test_labels_in_the_place_of_images(tmp_path: Path) -> None:
    write(tmp_path, IMAGES, np.zeros(5, np.uint8))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte' holds uint8 \(5,\), expected images as uint8 \(N, H"):
        open_as_stack(tmp_path / "t10k-labels-idx1-ubyte")


# ---- what is no idx file --------------------------------------------------------------------------------

WHOLE = content_of(IMAGES)
PACKED = gzip.compress(WHOLE, mtime=0)
#: Two billion images.
HUGE = struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28)
WRONG: list[tuple[bytes, str]] = [
    (b"", "it is cut short"),
    (WHOLE[:9], "it is cut short"),
    (WHOLE[:-1], "its 5x4x3 values need 76 bytes, it has 75"),
    (WHOLE + b"x", "its 5x4x3 values need 76 bytes, it has 77"),
    (b"\x89PNG" + WHOLE, "it does not begin with two zero bytes"),
    (content_of(IMAGES.astype(">i4"), kind=0x0C), "it holds values of type 0x0c, expected 0x08, unsigned bytes"),
    (struct.pack(">HBB", 0, 8, 0), "its array has 0 sides, expected 1 to 4"),
    (struct.pack(">HBB200I", 0, 8, 200, *[1] * 200), "its array has 200 sides, expected 1 to 4"),
    (HUGE, "its 2147483648x28x28 values need 1,683,627,180,048 bytes, it"),
    (gzip.compress(HUGE, mtime=0), r"its \d+ bytes expand to 1,683,627,180,048"),
    (PACKED[: len(PACKED) // 2], r"Compressed file ended|it is cut short"),
    (PACKED[:-8] + bytes(8), r"CRC check failed"),
    (gzip.compress(WHOLE[:-1], mtime=0), "it is cut short"),
    (gzip.compress(WHOLE + bytes(200_000_000), mtime=0), "more follows than 5x4x3 bytes"),
    (b"\x1f\x8b no gzip", "Unknown compression method|unknown compression"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the idx file '.*-images-idx3-ubyte': (?:{message}).*; copy it"):
        idx.read_idx(path)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        idx.read_sides(tmp_path / "train-images-idx3-ubyte")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_its_array_or_one_sentence(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "train-images-idx3-ubyte.gz"
    content = bytearray(data.draw(st.sampled_from([WHOLE, PACKED])))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) or None])
    with suppress(DataError):
        assert idx.read_idx(path).size in (0, *range(1, 61))
