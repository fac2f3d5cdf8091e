"""Our checkpoints hold only tensors, numbers and strings, and are read without executing anything.

All randomness of a run follows from (seed, step), so these two are the state of the generators and the position
in the data.
"""

from __future__ import annotations

import errno
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from drun.console import warn
from drun.errors import CheckpointError, door
from drun.files import atomic
from drun.typed import typed
from dtrain import config
from dtrain.checkpoints.tensors import read_tensors
from dtrain.config import Recipe

FORMAT = "dexport-checkpoint"
VERSION = 2
#: The names of our files, and of those of DiT, SiT and REPA, which consist of a step alone.
NUMBERED = re.compile(r"(?P<name>.+-|)(?P<step>\d{7,})\.pt", re.DOTALL)


@dataclass(frozen=True)
class Checkpoint:
    recipe: Recipe
    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    objective: dict[str, torch.Tensor] = field(default_factory=dict)  # trained beside the network
    scaler: dict[str, Any] = field(default_factory=dict)  # the state of fp16's loss scaler
    version: int = VERSION  # the version of the dtrain that wrote it


def path_at(folder: Path, recipe: Recipe, step: int) -> Path:
    return folder / f"{recipe.name}-{step:07d}.pt"


def all_of(folder: Path, recipe_name: str) -> list[Path]:
    """The checkpoints of one recipe in a folder, the lowest step first, without other files of similar names."""
    pattern = re.compile(rf"{re.escape(recipe_name)}-(\d{{7,}})\.pt")
    found = [(int(match[1]), path) for path in folder.glob("*.pt") if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest(folder: Path, recipe_name: str) -> Path | None:
    """The checkpoint with the highest step, or None."""
    paths = all_of(folder, recipe_name)
    return paths[-1] if paths else None


def located(path: Path) -> Path:
    """The checkpoint that a user named: a file, or the one with the highest step in the folder of a training run.

    Raises:
        CheckpointError: a folder without checkpoints, or with those of several runs.
    """
    if not path.is_dir():
        return path
    matches = {file: match for file in path.glob("*.pt") if (match := NUMBERED.fullmatch(file.name))}
    if not matches:
        below = sorted({f"'{file.parent}'" for file in path.glob("*/*.pt")})
        advice = f"; there are some in {', '.join(below)}" if below else ""
        raise CheckpointError(f"'{path}' is a folder without checkpoints, expected one that 'dtrain run' wrote{advice}")
    newest = max(matches, key=lambda file: int(matches[file]["step"]))
    if len({match["name"] for match in matches.values()}) > 1:
        raise CheckpointError(f"'{path}' holds checkpoints of several recipes: name one, such as '{newest}'")
    return newest


def save(checkpoint: Checkpoint, folder: Path, keep: int) -> Path:
    """Write a checkpoint atomically, then delete all but the `keep` newest of this recipe, but never this one."""
    path = path_at(folder, checkpoint.recipe, checkpoint.step)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": checkpoint.recipe.to_dict(),
        "step": checkpoint.step,
        "model": checkpoint.model,
        "ema": checkpoint.ema,
        "optimizer": checkpoint.optimizer,
        "objective": checkpoint.objective,
        "scaler": checkpoint.scaler,
    }
    content["sha256"] = content_digest(content)
    # An open file is given because torch writes the name of a path, here a temporary one, into the archive.
    with atomic(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's archive turns a failed write into this
            raise OSError(errno.ENOSPC, "writing failed, most likely the disk is full") from error
    for outdated in all_of(folder, checkpoint.recipe.name)[: -max(keep, 1)]:
        if outdated != path:
            outdated.unlink()
    return path


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of ours.

    Raises:
        CheckpointError: it cannot be read, is damaged, or is of another layout or version.
    """
    content = read_tensors(path)
    if not is_ours(content):
        raise CheckpointError(f"'{path}' was not written by dtrain: only its own checkpoints can be resumed")
    check_digest(content, path)
    return parse(content, path)


def is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.get("format") == FORMAT


def check_digest(content: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError if the content is not what was written. Version 1 has no digest to tell."""
    if type(version := content.get("version")) is int and version == 1:
        warn(f"'{path}' was written by an older dtrain and has no digest: changes cannot be detected")
    elif content.get("sha256") != content_digest(content):
        raise CheckpointError(f"'{path}' is damaged: its content has another sha256 than it states; copy it again")


def parse(content: dict[str, Any], path: Path) -> Checkpoint:
    """The content of a checkpoint of ours as a dataclass, each part of the right type.

    Raises:
        CheckpointError: another version, or a part that is missing or wrong.
    """
    version = content.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise CheckpointError(f"'{path}' has version {version!r:.40}, expected 1 or {VERSION}: use a newer dtrain")
    with door(f"'{path}' is damaged", CheckpointError):
        parts: dict[str, Any] = typed(_Parts, {key: content[key] for key in _Parts.__annotations__}, "checkpoint")
        if parts["step"] < 0:
            raise ValueError(f"its step got {parts['step']}, expected 0 or more")
        for key in ("model", "ema", "objective"):
            for name, tensor in parts[key].items():
                if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
                    raise ValueError(f"its {key} holds {type(tensor).__name__} as {name!r:.40}, expected a tensor")
        return Checkpoint(config.from_dict(parts.pop("recipe")), **parts, version=version)


class _Parts(TypedDict):
    recipe: dict[str, Any]
    step: int
    model: dict[str, Any]
    ema: dict[str, Any]
    optimizer: dict[str, Any]
    objective: dict[str, Any]
    scaler: dict[str, Any]


def content_digest(content: dict[str, Any]) -> str:
    """sha256 of all parts but the digest itself: names, numbers, text, and the tensors' types, shapes and bytes."""
    digest = hashlib.sha256()
    _digest({key: value for key, value in content.items() if key != "sha256"}, digest)
    return digest.hexdigest()


def _digest(value: Any, digest: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        digest.update(f"dict {len(value)}:".encode())
        for key in sorted(value, key=repr):
            _digest(key, digest)
            _digest(value[key], digest)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}:".encode())
        for item in value:
            _digest(item, digest)
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode())
