"""Sources of images, which are read by number: names, labels, headers and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drun.errors import DataError, door
from drun.foreign import regular
from dtrain.data.digits import DIGITS
from dtrain.data.image_files import (
    IMAGE_SUFFIXES,
    STACK_SUFFIX,
    Look,
    is_hidden,
    look_at,
    look_of_stack,
    open_stack,
    read_images,
)
from dtrain.data.labels import LABELS, read_labels
from dtrain.data.scanning import fingerprint, scan
from dtrain.data.stacks import Stack, digits, open_as_stack
from dtrain.data.zips import open_zip

Labels = NDArray[np.int64]
#: The label of each image, and the names of the classes; each is None if there are none.
LabelsAndNames = tuple[Labels | None, list[str] | None]


@dataclass(frozen=True)
class ImageSource:
    """Images that are read one by one; any thread may call `read` and `look`, which raise DataError naming the file.

    names: of the images: relative paths with slashes, and `file.npy[7]` for one of a stack. fingerprint: of names,
    sizes and times (zip: checksums). read: image number i, upright, 8-bit. look: what its header says. labels: raises
    DataError where they are wrong. stack: all of it, if it is one.
    """

    path: Path
    names: list[str]
    fingerprint: str
    read: Callable[[int], Image.Image]
    look: Callable[[int], Look]
    labels: Callable[[], LabelsAndNames]
    stack: Stack | None = None


def open_source(source: str | Path) -> ImageSource:
    """The word `digits` (scikit-learn's; a folder of that name is ./digits), or a path of images.

    These are a folder, searched recursively for image files and .npy stacks; a .zip of images; a .npy or .npz file; or
    idx files as MNIST's, the one of the images or the folder.

    Raises:
        DataError: it is nothing of this, cannot be read, or has no images.
    """
    if source == DIGITS:
        return _of_stack(digits())
    path = Path(source)
    if path.suffix.lower() == ".zip":
        return _open_zip(path)
    stack = open_as_stack(path)
    if stack is not None:
        _check_alone(path, stack)
        return _of_stack(stack)
    if path.is_file():
        raise DataError(
            f"unsupported image source: got the file '{path}', expected a folder, a .zip of images, a .npy, .npz or "
            "idx file; cut one large image with dtrain tiles"
        )
    return _open_folder(path)


# ---- one file of many -----------------------------------------------------------------------------------


def _of_stack(stack: Stack) -> ImageSource:
    count, *_ = stack.shape
    images, seen = cache(stack.images), look_of_stack(stack.shape)
    with door(f"cannot look at '{stack.path}'"):
        stats = {path.name: path.stat() for path in stack.files}
    return ImageSource(
        path=stack.path,
        names=[f"{stack.path.name}[{i}]" for i in range(count)],
        fingerprint=fingerprint({name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}),
        read=lambda i: Image.fromarray(images()[i]),
        look=lambda i: seen,
        labels=lambda: (stack.labels(), None),
        stack=stack,
    )


def _check_alone(folder: Path, stack: Stack) -> None:
    """A folder with idx files holds no other images."""
    if not folder.is_dir():
        return
    others = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    other = next((path for path in others if not is_hidden(path.relative_to(folder))), None)
    if other is not None:
        raise DataError(
            f"'{folder}' holds both '{stack.path.name}' and pictures such as '{other}': name the file or the folder "
            "of what to train on"
        )


def _open_zip(path: Path) -> ImageSource:
    found = open_zip(path)
    stamps = dict(zip(found.names, found.stamps, strict=True))
    return ImageSource(
        path,
        found.names,
        fingerprint(stamps),
        found.read,
        found.look,
        lambda: _labels(found.label_file, found.names, path),
    )


# ---- a folder -------------------------------------------------------------------------------------------


def _open_folder(root: Path) -> ImageSource:
    if not root.is_dir():
        raise DataError(f"cannot read images: no such file or folder '{root}'")
    suffixes = (*IMAGE_SUFFIXES, STACK_SUFFIX)
    listing = scan(root, suffixes)
    if not listing:
        raise DataError(f"no images in folder '{root}': expected names in {', '.join(suffixes)}")
    opened = lru_cache(maxsize=8)(open_stack)
    names = [name for file in sorted(listing) for name in _names_in(root, file, opened)]

    def read(i: int) -> Image.Image:
        file, row = _located(root, names[i])
        return next(read_images(file)) if row is None else Image.fromarray(opened(file)[row])

    def look(i: int) -> Look:
        file, row = _located(root, names[i])
        if row is not None:
            return look_of_stack(opened(file).shape)
        return look_at(lambda: regular(file).open("rb"), str(file))

    return ImageSource(root, names, fingerprint(listing), read, look, lambda: _folder_labels(root, names))


def _names_in(root: Path, file: str, opened: Callable[[Path], NDArray[np.uint8]]) -> list[str]:
    """The names of the images in one file of a folder."""
    if not file.lower().endswith(STACK_SUFFIX):
        return [file]
    return [f"{file}[{row}]" for row in range(len(opened(root / file)))]


def _located(root: Path, name: str) -> tuple[Path, int | None]:
    """The file that holds an image, and the row of the image in a stack."""
    if not name.endswith("]"):
        return root / name, None
    file, _, row = name[:-1].rpartition("[")
    return root / file, int(row)


# ---- labels ---------------------------------------------------------------------------------------------


def _folder_labels(root: Path, names: list[str]) -> LabelsAndNames:
    """Raises DataError for a class folder that is empty."""
    content, path = None, root / LABELS
    if path.exists():
        with door(f"cannot read '{path}'"):
            content = regular(path).read_bytes()
    labels, classes = _labels(content, names, root)
    for folder in sorted(root.iterdir()) if classes is not None else ():
        if folder.is_dir() and not is_hidden(Path(folder.name)) and not any(folder.iterdir()):
            raise DataError(f"the class folder '{folder}' is empty: put its images there, or remove it")
    return labels, classes


def _labels(content: bytes | None, names: list[str], path: Path) -> LabelsAndNames:
    """Those of dataset.json, else the top folders in sorted order, if every image is in one.

    content: of dataset.json, {"labels": [[name, class], ...]}, null for none. Raises DataError as `read_labels` does.
    """
    if content is not None:
        listed = read_labels(content, names, f"{LABELS} of '{path}'")
        return None if listed is None else np.array(listed, np.int64), None
    if not all("/" in name for name in names):
        return None, None
    tops = [name.partition("/")[0] for name in names]
    classes = sorted(set(tops))
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[top] for top in tops], np.int64), classes
