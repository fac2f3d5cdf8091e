"""Keeps teacher features of all images on disk. They are computed once, if no augmentation changes the images."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.console import Report, silent
from drun.errors import DataError
from drun.files import atomic, write_json
from drun.foreign import map_npy, read_json
from dtrain.teachers import Teacher

_RECIPE = 2  # part of a cache's fingerprint: raise it when features are kept in another way
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Features:
    """A teacher's features of N images.

    They are read from disk when asked for, and each image's checksum is compared then.

    That takes half a second a gigabyte and no time at the start, when a whole check would read hundreds of gigabytes.

    path: the file of the array float16 (N, num_tokens, dim). checksums: CRC-32 of each image, uint32 (N,).
    """

    path: Path
    array: NDArray[np.float16]
    checksums: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.float16]:
        """Features of the images `indices`, int64 (n,) in 0..N - 1: float16 (n, num_tokens, dim), in memory.

        Raises:
            DataError: they are not those that were written.
        """
        chosen = np.ascontiguousarray(self.array[indices])
        for index, features in zip(indices.tolist(), chosen, strict=True):
            if zlib.crc32(features) != self.checksums[index]:
                raise DataError(f"the features of image {index} in '{self.path}' are damaged: delete it and run again")
        return chosen


def ensure_features(
    images: NDArray[np.uint8],
    teacher: Teacher,
    path: Path,
    data_fingerprint: str,
    batch_size: int,
    report: Report = silent,
) -> Features:
    """The features at `path`; they are computed and written first if they are missing or outdated.

    Returns, args and errors: as `open_features` and `write_features`.
    """
    found = open_features(path, teacher, data_fingerprint)
    if found is None or len(found) != len(images):
        write_features(images, teacher, path, data_fingerprint, batch_size, report)
        found = open_features(path, teacher, data_fingerprint)
    if found is None:
        raise DataError(f"the teacher features in '{path}' were changed while they were read: run again")
    return found


def open_features(path: Path, teacher: Teacher, data_fingerprint: str) -> Features | None:
    """The features at `path`, or None: absent, cut short, damaged, or of another teacher or data.

    Args:
        path: the .npy file; its record lies beside it as .npy.json.
        data_fingerprint: of the images; another string for other images.
    """
    try:
        record, array = read_json(_record(path)), map_npy(path)
    except DataError:
        return None
    checksums = record.get("crc32")
    fits = array.dtype == np.float16 and array.shape[1:] == (teacher.num_tokens, teacher.dim)
    if not fits or record.get("fingerprint") != _fingerprint(teacher, data_fingerprint):
        return None
    if not isinstance(checksums, list) or len(checksums) != len(array) or not all(map(_is_crc, checksums)):
        return None
    return Features(path, array, np.array(checksums, np.uint32))


def _is_crc(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def write_features(
    images: NDArray[np.uint8],
    teacher: Teacher,
    path: Path,
    data_fingerprint: str,
    batch_size: int,
    report: Report = silent,
) -> None:
    """Write the features of all images as float16 (N, num_tokens, dim), and a record of what they are of.

    Args:
        images: uint8 (N, H, W, C), read a batch at a time: memory does not grow with N.
        path: the .npy file. It appears when it is complete.
        data_fingerprint: of the images; another string for other images.
        batch_size: images that the teacher sees at a time.

    Raises:
        DataError: no images, images that the teacher does not take, or features that are NaN, infinite or above
            the range of float16, with the index of the first such image.
        UserError: the disk is full or cannot be written.
    """
    if not len(images):
        raise DataError("there are no images to compute teacher features of")
    shape = (len(images), teacher.num_tokens, teacher.dim)
    _record(path).unlink(missing_ok=True)  # first: no old record may ever stand beside a new array
    checksums: list[int] = []
    npy: Any = np.lib.format  # its functions carry no types
    with atomic(path) as unfinished, unfinished.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for done, features in _batches(images, teacher, batch_size):
            values = features.cpu().numpy().astype("<f2", copy=False)
            checksums += [zlib.crc32(image.tobytes()) for image in values]
            file.write(values.tobytes())
            report("teacher features", done, len(images))
    fingerprint = _fingerprint(teacher, data_fingerprint)
    write_json(_record(path), {"fingerprint": fingerprint, "shape": shape, "crc32": checksums})


def _batches(images: NDArray[np.uint8], teacher: Teacher, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """(images done, their latest features as float16)"""
    for first in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[first : first + batch_size]))
        features = teacher(batch)
        half = features.half()
        wrong = ~half.isfinite().flatten(1).all(dim=1)
        if wrong.any():
            offset = int(wrong.nonzero()[0])
            raise DataError(_complaint(features[offset], first + offset, teacher.name))
        yield first + len(batch), half


def _complaint(features: Tensor, index: int, name: str) -> str:
    start = f"teacher '{name}' gives image {index} features that"
    if not features.isfinite().all():
        return f"{start} are NaN or infinite: its weights are damaged"
    largest = float(features.abs().max())
    return f"{start} reach {largest:.4g}, above {_LARGEST:.0f}, the largest of float16: do not cache its features"


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _fingerprint(teacher: Teacher, data_fingerprint: str) -> str:
    described = json.dumps([_RECIPE, teacher.fingerprint, data_fingerprint])
    return hashlib.sha256(described.encode()).hexdigest()
