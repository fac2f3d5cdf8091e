"""Files that hold many images of one size, with their labels or without: .npy, .npz and idx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.errors import DataError
from drun.foreign import npz_headers, read_npz
from dtrain.data import idx
from dtrain.data.digits import DIGITS, digit_labels, enlarged_digits
from dtrain.data.image_files import open_stack
from dtrain.data.labels import MAX_CLASSES

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

#: The names of images and labels in .npz files, in lower case: common ones, then those of numpy, Keras and MedMNIST.
PAIRS = {
    "images": ("labels",), "image": ("label",), "x": ("y",), "data": ("labels", "target"), "arr_0": ("arr_1",),
    "x_train": ("y_train",), "train_images": ("train_labels",),
}  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """Images of one size, which are read when they are asked for.

    shape: (N, H, W) or (N, H, W, 3), of images. files: the files that hold it. is_light: images take almost no memory.
    """

    path: Path
    shape: tuple[int, ...]
    images: Callable[[], Images]
    labels: Callable[[], Labels | None]
    files: tuple[Path, ...]
    is_light: bool = False


def digits() -> Stack:
    """Scikit-learn's handwritten digits at 16x16."""
    labels = digit_labels()
    return Stack(Path(DIGITS), (len(labels), 16, 16), enlarged_digits, lambda: labels, (), is_light=True)


def open_as_stack(path: Path) -> Stack | None:
    """The stack in the file or the folder of idx files at `path`; None for anything else.

    Raises:
        DataError: it is damaged, holds no images, or several sets of them.
    """
    if path.is_dir():
        found = idx.find_images(path)
        return None if found is None else _open_idx(found)
    suffix = path.suffix.lower()
    if suffix == ".npy" and path.is_file():
        stack = open_stack(path)
        return Stack(path, stack.shape, lambda: open_stack(path), lambda: None, (path,), is_light=True)
    if suffix == ".npz":
        return _open_npz(path)
    return _open_idx(path) if idx.is_idx(path) else None


# ---- idx ------------------------------------------------------------------------------------------------


def _open_idx(path: Path) -> Stack:
    shape, beside = _image_shape(idx.read_sides(path), np.dtype(np.uint8), f"'{path}'"), idx.labels_beside(path)

    def labels() -> Labels | None:
        return None if beside is None else _checked(idx.read_idx(beside), shape[0], f"'{beside}'")

    files = (path,) if beside is None else (path, beside)
    return Stack(path, shape, lambda: idx.read_idx(path).reshape(shape), labels, files)


# ---- .npz -----------------------------------------------------------------------------------------------


def _open_npz(path: Path) -> Stack:
    headers = npz_headers(path)
    images, labels = _names(headers, path)
    shape = _image_shape(*headers[images], f"'{images}' in '{path}'")

    def read(name: str) -> NDArray[Any]:
        return read_npz(path, only=(name,))[name]

    def read_labels() -> Labels | None:
        return None if labels is None else _checked(read(labels), shape[0], f"'{labels}' in '{path}'")

    return Stack(path, shape, lambda: read(images).reshape(shape), read_labels, (path,))


def _names(headers: dict[str, Any], path: Path) -> tuple[str, str | None]:
    """Names of the images and of their labels."""
    by_lower = {name.lower(): name for name in headers}
    found = [name for name in PAIRS if name in by_lower]
    if len(found) != 1:
        described = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in headers.items())
        problem = "two arrays may be the images" if found else "no array is called as images are"
        raise DataError(
            f"{problem} in '{path}': it holds {described}, expected images and labels, x_train and y_train, or arr_0 "
            "and arr_1; save it with such names"
        )
    labels = [by_lower[name] for name in PAIRS[found[0]] if name in by_lower]
    return by_lower[found[0]], labels[0] if labels else None


# ---- checks ---------------------------------------------------------------------------------------------


def _image_shape(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
    """(N, H, W) or (N, H, W, 3). Raises DataError for anything else."""
    is_image = len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))
    if dtype != np.uint8 or not is_image or 0 in shape:
        raise DataError(f"{what} holds {dtype} {shape}, expected images as uint8 (N, H, W) or (N, H, W, 3)")
    return shape[:3] if shape[3:] == (1,) else shape


def _checked(labels: NDArray[Any], num_images: int, what: str) -> Labels:
    """Labels (N,) or (N, 1) as int64 (N,). Raises DataError for anything else."""
    if labels.dtype.kind not in "iu" or labels.shape not in ((num_images,), (num_images, 1)):
        raise DataError(
            f"{what} holds {labels.dtype} {labels.shape}, expected a whole number for each of the {num_images:,} images"
        )
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise DataError(f"{what} holds labels from {labels.min()} to {labels.max()}, expected 0 to {MAX_CLASSES - 1}")
    return labels.reshape(-1).astype(np.int64)
