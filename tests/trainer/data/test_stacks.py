"""Files of many images, with labels or without: what is taken for images, and what is refused."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import DataError
from dtrain.data.digits import digit_labels, enlarged_digits
from dtrain.data.stacks import Stack, digits, open_as_stack

GREY = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
COLOUR = np.repeat(GREY[..., None], 3, axis=-1)
LABELS = np.array([2, 0, 1, 1, 7])


def opened(path: Path) -> Stack:
    stack = open_as_stack(path)
    assert stack is not None
    return stack


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez_compressed(folder / "a.npz", **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize(("images", "labels", "more"), [
    ("images", "labels", {}), ("image", "label", {}), ("x", "y", {}), ("X", "y", {}), ("data", "target", {}),
    ("data", "labels", {}), ("arr_0", "arr_1", {}), ("x_train", "y_train", {"x_test": GREY[:1], "y_test": LABELS[:1]}),
    ("train_images", "train_labels", {"val_images": GREY[:2], "test_images": COLOUR}),
])  # fmt: skip
def test_arrays_go_by_the_names_that_people_give_them(
    tmp_path: Path, images: str, labels: str, more: dict[str, np.ndarray]
) -> None:
    stack = opened(saved(tmp_path, **{images: GREY, labels: LABELS}, **more))
    assert stack.shape == (5, 4, 3)
    assert np.array_equal(stack.images(), GREY)
    found = stack.labels()
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == LABELS.tolist()
    assert opened(saved(tmp_path, **{images: GREY}, **more)).labels() is None


@pytest.mark.parametrize(
    ("images", "shape"), [(COLOUR, (5, 4, 3, 3)), (GREY[..., None], (5, 4, 3)), (np.asfortranarray(GREY), (5, 4, 3))]
)
def test_shapes_of_images(tmp_path: Path, images: np.ndarray, shape: tuple[int, ...]) -> None:
    stack = opened(saved(tmp_path, images=images, labels=LABELS[:, None].astype(np.uint8)))
    assert stack.shape == stack.images().shape == shape
    assert np.array_equal(stack.images(), images.reshape(shape))
    found = stack.labels()
    assert found is not None
    assert found.tolist() == LABELS.tolist()


def test_npy_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", COLOUR)
    stack = opened(tmp_path / "a.npy")
    assert isinstance(stack.images(), np.memmap)
    assert stack.is_light
    assert stack.labels() is None


def test_digits_are_a_stack() -> None:
    stack = digits()
    assert stack.shape == stack.images().shape == (1797, 16, 16)
    assert np.array_equal(stack.images(), enlarged_digits())
    assert stack.labels() is not None
    assert np.array_equal(stack.labels(), digit_labels())  # type: ignore[arg-type]


def test_what_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    assert open_as_stack(tmp_path) is open_as_stack(tmp_path / "a.png") is open_as_stack(tmp_path / "gone") is None


# ---- what is refused ------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, np.ndarray], str]] = [
    ({"images": GREY, "x": GREY}, r"two arrays may be the images in '.*': it holds images uint8 \(5, 4, 3\), x uint8"),
    ({"pictures": GREY}, r"no array is called as images are in .*: it holds pictures uint8 .*, expected images and"),
    ({"images": GREY / 255}, r"'images' in '.*' holds float64 \(5, 4, 3\), expected images as uint8 \(N, H, W\) or"),
    ({"x": np.moveaxis(COLOUR, -1, 1)[..., :2]}, r"'x' in .* holds uint8 \(5, 3, 4, 2\), expected images"),
    ({"x": GREY[:0]}, r"'x' in .* holds uint8 \(0, 4, 3\), expected images"),
    ({"x": np.array([None])}, "cannot read the arrays of .*: it holds object, expected numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), WRONG)
def test_arrays_that_are_no_images(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_as_stack(saved(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], r"'labels' in .* holds int64 \(4,\), expected a whole number for each of the 5 images"),
        (np.eye(5), r"holds float64 \(5, 5\), expected a whole number for each"),
        (LABELS / 1, r"holds float64 \(5,\), expected a whole number for each"),
        (LABELS - 1, "holds labels from -1 to 6, expected 0 to 999999"),
        (LABELS.astype(np.uint64) + np.uint64(2**63), "holds labels from 9223372036854775808 to .*, expected 0 to 9"),
    ],
)
def test_wrong_labels(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    stack = opened(saved(tmp_path, images=GREY, labels=labels))
    with pytest.raises(DataError, match=message):
        stack.labels()


def test_an_archive_that_expands_beyond_measure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its [\d,]+ bytes expand to 2\d\d,\d\d\d,\d\d\d"):
        open_as_stack(saved(tmp_path, images=np.zeros((200, 1000, 1000), np.uint8)))


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    path = saved(tmp_path, images=GREY)
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2147483648, 28, 28)}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.ljust(127) + b"\n")
    with pytest.raises(DataError, match="needs 1,683,627,180,032 bytes, 0 follow"):
        open_as_stack(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_gives_its_images_or_one_sentence(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = saved(tmp_path_factory.getbasetemp(), images=GREY, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content))) or None])
    with suppress(DataError):
        stack = opened(path)
        assert np.array_equal(stack.images(), GREY)  # the checksum holds, or it was refused
        assert stack.labels() is None or np.array_equal(stack.labels(), LABELS)  # type: ignore[arg-type]
