"""Our checkpoints: tensors, numbers and strings only, read without executing anything.

All randomness of a run follows from (seed, step), so these two are the state of the generators and the position
in the data.
"""

from __future__ import annotations

import errno
import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from drun.errors import CheckpointError
from drun.files import atomic
from dtrain import config
from dtrain.config import Recipe

FORMAT = "dexport-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    recipe: Recipe
    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    objective: dict[str, torch.Tensor] = field(default_factory=dict)  # what the objective trains beside the network
    scaler: dict[str, Any] = field(default_factory=dict)              # of fp16's loss
    version: int = VERSION                                            # of the dtrain that wrote it


def path_at(folder: Path, recipe: Recipe, step: int) -> Path:
    return folder / f"{recipe.name}-{step:07d}.pt"


def newest(folder: Path, recipe_name: str) -> Path | None:
    """The checkpoint with the highest step, or None."""
    paths = sorted(path for path in folder.glob("*.pt") if re.fullmatch(rf"{re.escape(recipe_name)}-\d+", path.stem))
    return paths[-1] if paths else None


def save(checkpoint: Checkpoint, folder: Path, keep: int) -> Path:
    """Write under a temporary name, rename, then delete all but the `keep` newest."""
    path = path_at(folder, checkpoint.recipe, checkpoint.step)
    content = {
        "format": FORMAT, "version": VERSION, "recipe": checkpoint.recipe.to_dict(), "step": checkpoint.step,
        "model": checkpoint.model, "ema": checkpoint.ema, "optimizer": checkpoint.optimizer,
        "objective": checkpoint.objective, "scaler": checkpoint.scaler,
    }  # fmt: skip
    # To an open file: of a path, torch writes the name, here a temporary one, into the archive.
    with atomic(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch's archive makes of a write that failed
            raise OSError(errno.ENOSPC, "writing failed, most likely the disk is full") from error
    older = sorted(folder.glob(f"{checkpoint.recipe.name}-*.pt"))
    for outdated in older[: -max(keep, 1)]:
        outdated.unlink()
    return path


def read_tensors(path: Path, allowed: tuple[type, ...] = ()) -> Any:
    """The content of any PyTorch or safetensors file, on the CPU; no class but `allowed` is ever built.

    Raises:
        CheckpointError: no such file, truncated or not a checkpoint, or a pickle that asks for a class.
    """
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: '{path}'")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read is refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises many classes for a damaged file
        asked_for = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = asked_for[1] if asked_for else _first_global(path)
        if name is None:
            raise CheckpointError(f"'{path}' is truncated or no PyTorch checkpoint: copy it again") from error
        raise CheckpointError(
            f"'{path}' asks for the class '{name}', expected tensors, numbers and strings only: refused, nothing "
            "was executed; save its state dict alone"
        ) from error


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of ours.

    Raises:
        CheckpointError: it cannot be read, or is of another layout or version.
    """
    content = read_tensors(path)
    if not is_ours(content):
        raise CheckpointError(f"'{path}' was not written by dtrain: only its own checkpoints can be resumed")
    return parse(content, path)


def is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.get("format") == FORMAT


def parse(content: dict[str, Any], path: Path) -> Checkpoint:
    if content["version"] != VERSION:
        raise CheckpointError(f"'{path}' has version {content['version']}, expected {VERSION}: use a newer dtrain")
    try:
        fields = {key: content[key] for key in ("step", "model", "ema", "optimizer", "objective", "scaler")}
        return Checkpoint(config.from_dict(content["recipe"]), **fields, version=content["version"])
    except KeyError as error:
        raise CheckpointError(f"'{path}' lacks {error}: it is damaged") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path}' is truncated or no safetensors file: copy it again") from error


def _first_global(path: Path) -> str | None:
    """The first class that a bare pickle asks for, found by reading its opcodes, which executes nothing."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    except (ValueError, UnicodeDecodeError):
        pass
    return None
