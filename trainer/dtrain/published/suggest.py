"""The commands that may follow a checkpoint, as a user types them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from drun.bundle.average import of_initial_weights


def export_command(checkpoint: Path, settings: Mapping[str, str] | None = None, weights: str = "ema") -> str:
    """The command that exports a checkpoint.

    Args:
        settings: settings that the file does not state; see `published.load`.
        weights: `ema` or `online`.
    """
    assignments = (word for pair in (settings or {}).items() for word in ("--set", "=".join(pair)))
    chosen = () if weights == "ema" else ("--weights", weights)
    return shlex.join(["dexport", "onnx", str(checkpoint), *assignments, *chosen])


def weights_of(initial_share: float | None, step: int) -> str:
    """The weights to export: the online weights if the average still holds too much of the initial weights."""
    return "online" if of_initial_weights(initial_share, step) else "ema"


def bundle_of(checkpoint: Path, weights: str = "ema") -> Path:
    """The default folder of a checkpoint's bundle; online weights get their own folder beside the averaged ones."""
    return Path("bundles", checkpoint.stem if weights == "ema" else f"{checkpoint.stem}-{weights}")
