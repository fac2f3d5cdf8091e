"""Image files to encode, by number: names, labels and pixels."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from drun.errors import DataError
from dtrain.data.image_files import IMAGE_SUFFIXES, decode, find_files, is_hidden
from dtrain.data.latents import LABELS, read_labels
from dtrain.data.shards import fingerprint


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
        raise DataError(f"Cannot encode the file {path}: expected a folder or a .zip of images.")
    return _open_folder(path)


def _open_folder(root: Path) -> Source:
    files = find_files(root)
    stacks = [file for file in files if file.suffix.lower() == ".npy"]
    if stacks:
        raise DataError(f"Cannot encode the stack {stacks[0]}: expected image files, which have names; save it as PNG.")
    stats = {file.relative_to(root).as_posix(): file.stat() for file in files}
    names, labels = list(stats), root / LABELS
    return Source(
        path=root,
        names=names,
        fingerprint=fingerprint({name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}),
        label_file=labels.read_bytes() if labels.is_file() else None,
        read=lambda i: decode(partial((root / names[i]).open, "rb"), str(root / names[i])),
    )


def _open_zip(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)  # stays open: its directory is long, and threads may share it
        label_file = archive.read(LABELS) if LABELS in archive.namelist() else None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"Cannot read zip file {path}: {error}.") from error
    entries = [entry for entry in archive.infolist() if _is_image(Path(entry.filename))]
    if not entries:
        raise DataError(f"No images in zip file {path}: expected names in {', '.join(IMAGE_SUFFIXES)}.")
    entries.sort(key=lambda entry: entry.filename)
    return Source(
        path=path,
        names=[entry.filename for entry in entries],
        fingerprint=fingerprint({entry.filename: (entry.file_size, entry.CRC) for entry in entries}),
        label_file=label_file,
        read=lambda i: decode(partial(archive.open, entries[i]), f"{entries[i].filename} in {path}"),
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def find_labels(source: Source) -> tuple[list[int] | None, list[str] | None]:
    """The label of each image, and the names of the classes; None where there are none.

    From dataset.json, {"labels": [[name, class], ...]}, null for none; without it from the top folders, 0, 1, ... in
    sorted order, if every image is in one. Raises DataError as `read_labels` does.
    """
    if source.label_file is not None:
        return read_labels(source.label_file, source.names, f"{LABELS} of {source.path}"), None
    if not all("/" in name for name in source.names):
        return None, None
    tops = [name.partition("/")[0] for name in source.names]
    classes = sorted(set(tops))
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[top] for top in tops], classes
