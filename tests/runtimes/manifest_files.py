"""Manifest files that a test changes, sealed by their own hash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drun.bundle import reading as bundles
from drun.bundle.hashes import seal
from drun.errors import BundleError


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a bundle's manifest file."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    return write(path, manifest)


def write(path: Path, manifest: dict[str, Any]) -> Path:
    """Write a bundle's manifest file, sealed by its own hash."""
    fields = {key: value for key, value in manifest.items() if key != "sha256"}
    (path / "manifest.json").write_text(seal(fields))
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        bundles.read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def parent(manifest: Any, name: str) -> tuple[Any, Any]:
    """The container of a field and its key there."""
    *path, last = (int(key) if key.isdecimal() else key for key in name.split("."))
    for key in path:
        manifest = manifest[key]
    return manifest, last


def change(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        container, key = parent(manifest, name)
        container[key] = value

    return apply
