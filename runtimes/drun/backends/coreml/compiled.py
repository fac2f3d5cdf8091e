"""Packages as this Mac compiles them, once: Core ML itself would compile them at every start, which takes minutes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from drun import cache
from drun.bundle.artifact import Artifact
from drun.console import say
from drun.errors import BackendUnavailable, reason
from drun.mil.package import Package

NAME = "model.mlmodelc"


def compiled(package: Package, artifact: Artifact, unit: str, setting: Mapping[str, str]) -> Path:
    """The compiled package in the cache, in a folder of its own for each content, system and unit.

    Units that shared one have spoilt each other's images.

    Args:
        artifact: of the package, whose files were hashed.
        setting: the system, the unit, and all else that it depends on.

    Raises:
        BackendUnavailable: Core ML cannot compile it. UserError: the cache cannot be written.
    """
    files = sorted(entry.sha256 for entry in artifact.files)
    key = hashlib.sha256(json.dumps(["coreml", files, dict(setting)]).encode()).hexdigest()
    folder = cache.folder_of(key, f"{package.folder.name}, compiled by Core ML for {unit}")
    path = folder / NAME
    if not path.is_dir():
        say(f"Core ML compiles '{package.folder.name}' for {unit}, once: this can take minutes")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _put(_compile(package.folder, Path(scratch, NAME)), path)
    return path


def _compile(package: Path, path: Path) -> Path:
    from coremltools.models.utils import compile_model

    try:
        compile_model(str(package), str(path))
    except Exception as error:
        raise BackendUnavailable(f"Core ML does not compile '{package}': {reason(error)}") from error
    return path


def _put(made: Path, path: Path) -> None:
    try:
        made.rename(path)
    except OSError:  # another process was faster
        if not path.is_dir():
            raise
