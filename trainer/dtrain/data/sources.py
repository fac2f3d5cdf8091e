"""Image files to encode, by number: names, labels and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from drun.errors import DataError, door
from drun.foreign import regular
from dtrain.data.image_files import find_files, read_images
from dtrain.data.labels import LABELS, read_labels
from dtrain.data.shards import fingerprint
from dtrain.data.zips import open_zip


@dataclass(frozen=True)
class Source:
    """names: relative paths with slashes, sorted. fingerprint: of names, sizes and times (zip: checksums).

    label_file: content of its dataset.json, if there is one. read: image number i, upright, 8-bit; any thread may
    call it, and it raises DataError naming a file that cannot be decoded.
    """

    path: Path
    names: list[str]
    fingerprint: str
    label_file: bytes | None
    read: Callable[[int], Image.Image]


def open_source(path: Path) -> Source:
    """A folder, searched recursively, or a .zip of images.

    Raises:
        DataError: it is neither, cannot be read, has no images, or holds .npy stacks, whose images have no names.
    """
    if path.suffix.lower() == ".zip":
        return _open_zip(path)
    if path.is_file():
        raise DataError(f"cannot encode the file '{path}': expected a folder or a .zip of images")
    return _open_folder(path)


def _open_folder(root: Path) -> Source:
    files = find_files(root)
    stacks = [file for file in files if file.suffix.lower() == ".npy"]
    if stacks:
        expected = "expected image files, which have names; save it as PNG"
        raise DataError(f"cannot encode the stack '{stacks[0]}': {expected}")
    names, labels = [file.relative_to(root).as_posix() for file in files], root / LABELS
    with door(f"cannot look at the images in '{root}'"):
        stats = {name: (root / name).stat() for name in names}
        label_file = regular(labels).read_bytes() if labels.exists() else None
    return Source(
        path=root,
        names=names,
        fingerprint=fingerprint({name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}),
        label_file=label_file,
        read=lambda i: next(read_images(root / names[i])),
    )


def _open_zip(path: Path) -> Source:
    found = open_zip(path)
    stamps = dict(zip(found.names, found.stamps, strict=True))
    return Source(path, found.names, fingerprint(stamps), found.label_file, found.read)


def find_labels(source: Source) -> tuple[list[int] | None, list[str] | None]:
    """The label of each image, and the names of the classes; None where there are none.

    From dataset.json, {"labels": [[name, class], ...]}, null for none; without it from the top folders, 0, 1, ... in
    sorted order, if every image is in one. Raises DataError as `read_labels` does.
    """
    if source.label_file is not None:
        return read_labels(source.label_file, source.names, f"{LABELS} of '{source.path}'"), None
    if not all("/" in name for name in source.names):
        return None, None
    tops = [name.partition("/")[0] for name in source.names]
    classes = sorted(set(tops))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[top] for top in tops], classes
