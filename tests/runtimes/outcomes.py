"""What commands answered, and bundles that they read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drun.bundle.hashes import seal


def fails(result: Any, message: str, code: int = 1) -> None:
    """One clear line on stderr, and the exit code."""
    assert (result.code, result.err) == (code, f"error: {message}\n")


def refused(result: Any, *parts: str) -> None:
    """One line on stderr that holds all of `parts`, and exit code 1."""
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [part for part in parts if part not in result.err] == []


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest, as its exporter could have written it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    del manifest["sha256"]
    (path / "manifest.json").write_text(seal(manifest))
