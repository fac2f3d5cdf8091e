"""Reads the images in a .zip without unpacking it to the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from drun.errors import DataError, door
from drun.foreign import check_expansion, regular
from dtrain.data.image_files import IMAGE_SUFFIXES, Look, check_name, decode, is_hidden, look_at
from dtrain.data.labels import LABELS


@dataclass(frozen=True)
class Zip:
    """names: of the images, sorted. stamps: size in bytes and CRC-32 of each. label_file: content of its dataset.json.

    read: image number i, as `decode` gives it; look: what its header says. Any thread may call them, and they raise
    DataError naming the image.
    """

    names: list[str]
    stamps: list[tuple[int, int]]
    label_file: bytes | None
    read: Callable[[int], Image.Image]
    look: Callable[[int], Look]


def open_zip(path: Path) -> Zip:
    """The directory of a .zip of images, which stays open.

    Raises:
        DataError: it is missing, damaged, holds no images, or two of one name.
    """
    with door(f"cannot read the zip file '{path}'"):
        archive = zipfile.ZipFile(regular(path))  # stays open: its directory is long, and threads may share it
        members = [member for member in archive.infolist() if member.filename == LABELS or _is_image(member)]
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two of its members have one name")
        images = sorted((m for m in members if m.filename != LABELS), key=lambda member: member.filename)
        labels = [_content(archive, member).getvalue() for member in members if member.filename == LABELS]
    if not images:
        raise DataError(f"no images in the zip file '{path}': expected names in {', '.join(IMAGE_SUFFIXES)}")
    for member in images:
        check_name(member.filename, path)

    def opened(i: int) -> tuple[Callable[[], BytesIO], str]:
        return lambda: _content(archive, images[i]), f"{images[i].filename}' in '{path}"

    return Zip(
        names=[member.filename for member in images],
        stamps=[(member.file_size, member.CRC) for member in images],
        label_file=labels[0] if labels else None,
        read=lambda i: decode(*opened(i)),
        look=lambda i: look_at(*opened(i)),
    )


def _is_image(member: zipfile.ZipInfo) -> bool:
    path = Path(member.filename)
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path) and not member.is_dir()


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BytesIO:
    """The whole member in memory: its checksum is compared only at its end, and seeking back would start again."""
    check_expansion(member.compress_size, member.file_size)
    return BytesIO(archive.read(member))
