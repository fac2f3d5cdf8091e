"""The one reader of tensors: PyTorch's archives, its older files and safetensors, of which nothing is executed.

An archive is checked before torch sees it: PyTorch compares no checksums, and believes what a storage says of its size.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import torch
from torch import Tensor

from drun.console import warn
from drun.errors import CheckpointError, door
from dtrain.checkpoints.pickled import Pickled, scan

#: Tied weights appear twice. A tensor that appears more often was made to fill the memory.
MAX_SHARING, FREE_BYTES = 4, 1 << 20
#: The most tensors, numbers and texts of a checkpoint.
MAX_PARTS = 5_000_000
#: The most levels of nested dictionaries; our checkpoints have fewer than five.
MAX_DEPTH = 16
#: An older file begins with these pickles: a number, the protocol, the system, the content, the storages' names.
OLDER_PICKLES = 5


def read_tensors(path: Path, allowed: tuple[type, ...] = ()) -> Any:
    """The content of any PyTorch or safetensors file, on the CPU; no class but `allowed` is ever built.

    The tensors of an archive are memory maps of the file until they are copied.

    Raises:
        CheckpointError: no such file, damaged, not a checkpoint, or a pickle that asks for a class.
    """
    if path.suffix == ".safetensors":
        import safetensors.torch  # noqa: F401, outside the door: where it is missing, nothing is wrong with the file
    if path.suffix == ".toml":
        raise CheckpointError(f"'{path}' is a recipe, expected a checkpoint: train one with dtrain run {path}")
    with door(f"'{path}' is damaged or not a checkpoint", CheckpointError), existing(path).open("rb") as file:
        if path.suffix == ".safetensors":
            content = _read_safetensors(path)
        elif zipfile.is_zipfile(file):
            content = _read_archive(path, file, allowed)
        else:
            content = _read_older(path, file, allowed)
        check_tensors(content, os.fstat(file.fileno()).st_size)
        return content


def existing(path: Path) -> Path:
    """The path of an existing file. Raises CheckpointError for another."""
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: '{path}'")
    return path


def check_tensors(content: Any, num_bytes: int) -> None:
    """Raises ValueError for tensors that are not plain, or need much more memory than their file, bytes."""
    if (parts := _count(content, {}, MAX_DEPTH)) > MAX_PARTS:
        raise ValueError(f"it repeats its parts until they are {parts:,}")
    total = 0
    for tensor in tensors_of(content):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError("it holds a sparse, quantised or absent tensor, expected plain ones")
        if _overlaps(tensor):
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} uses its numbers several times")
        total += tensor.numel() * tensor.element_size()
    if total > MAX_SHARING * num_bytes + FREE_BYTES:
        raise ValueError(f"its {num_bytes:,} bytes make tensors of {total:,}")


def tensors_of(content: Any) -> Iterator[Tensor]:
    """All tensors in dictionaries, lists and namespaces."""
    if isinstance(content, Tensor):
        yield content
    for item in _parts(content):
        yield from tensors_of(item)


def _parts(content: Any) -> Iterable[Any]:
    items = vars(content) if isinstance(content, argparse.Namespace) else content
    return items.values() if isinstance(items, Mapping) else items if isinstance(items, list | tuple) else ()


def _count(content: Any, known: dict[int, int], depth: int) -> int:
    """The number of parts, where a shared part counts each time that it appears, but is visited once."""
    if depth < 0:
        raise RecursionError
    if id(content) not in known:
        known[id(content)] = 1 + sum(_count(item, known, depth - 1) for item in _parts(content))
    return known[id(content)]


def _overlaps(tensor: Tensor) -> bool:
    """Whether two indices may name one number, or the storage ends before the last."""
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return True
    reach = 1
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return True
            reach += (size - 1) * stride
    return False


# ---- PyTorch's archives ---------------------------------------------------------------------------------


def _read_archive(path: Path, file: IO[bytes], allowed: tuple[type, ...]) -> Any:
    with zipfile.ZipFile(file) as archive:
        _check_members(path, archive)
        root, pickled = _scan_archive(archive)
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    for key, num_bytes in pickled.storages.items():
        if (got := sizes.get(f"{root}data/{key}")) != num_bytes:
            raise ValueError(f"storage '{key}' says that it has {num_bytes:,} bytes, its record has {got or 0:,}")
    # This is the file that was checked, even if another file has its name by now.
    opened = Path(f"/proc/self/fd/{file.fileno()}")
    return _load(path, opened if opened.exists() else path, allowed, mmap=True)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its members have one name")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its member '{member.filename}' is compressed, which PyTorch never does: unpack it")
    if not any(member.CRC for member in members):
        warn(f"'{path}' was saved without checksums: damage cannot be detected")
        for member in members:
            member.CRC = None  # type: ignore[assignment]  # zipfile then compares nothing
    elif (broken := archive.testzip()) is not None:
        raise ValueError(f"the checksum of its member '{broken}' is wrong")


def _scan_archive(archive: zipfile.ZipFile) -> tuple[str, Pickled]:
    names = [name for name in archive.namelist() if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(names) != 1:
        raise ValueError("it is an archive, but not one of PyTorch's")
    with archive.open(names[0]) as file:
        return names[0].removesuffix("data.pkl"), scan(file)


def _refuse(path: Path, name: str) -> NoReturn:
    raise CheckpointError(
        f"'{path}' asks for the class '{name}', expected tensors, numbers and strings only: refused, nothing was "
        "executed; save its state dict alone"
    )


def _load(path: Path, opened: Path, allowed: tuple[type, ...], mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; a file that cannot be read is refused
            return torch.load(opened, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        if asked_for := re.search(r"GLOBAL ([\w.]+)", str(error)):
            _refuse(path, asked_for[1])
        if isinstance(error, pickle.UnpicklingError):  # its text advises to execute the file
            raise ValueError("it holds more than tensors, numbers and text") from error
        raise


# ---- others ---------------------------------------------------------------------------------------------


def _read_older(path: Path, file: IO[bytes], allowed: tuple[type, ...]) -> Any:
    """Read a file of a PyTorch before 1.6, or another file that is no archive. Such files have no checksums."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if file.read(2) == b"PK":
        raise ValueError("its end is missing")
    file.seek(0)
    for place in range(OLDER_PICKLES):
        pickled = scan(file)
        if place == 0 and pickled.classes:  # a pickle, but not a file of torch, which begins with a number
            _refuse(path, min(pickled.classes))
        if (claimed := sum(pickled.storages.values())) > size:
            raise ValueError(f"its {size:,} bytes say that they hold storages of {claimed:,}")
    warn(f"'{path}' is of PyTorch's older format, which has no checksums: damage cannot be detected")
    return _load(path, path, allowed, mmap=False)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))
