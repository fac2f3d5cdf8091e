"""The commands that follow a checkpoint, as a user types them: whoever suggests one asks here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from drun.bundle.average import of_initial_weights


def export_command(checkpoint: Path, settings: Mapping[str, str] | None = None, weights: str = "ema") -> str:
    """Exports a checkpoint.

    Args:
        settings: what the file does not say, as of `published.load`.
        weights: `ema` or `online`.
    """
    assignments = (word for pair in (settings or {}).items() for word in ("--set", "=".join(pair)))
    chosen = () if weights == "ema" else ("--weights", weights)
    return shlex.join(["dexport", "onnx", str(checkpoint), *assignments, *chosen])


def weights_of(initial_share: float | None, step: int) -> str:
    """The weights to export: online ones where the average still holds initial weights, 0 to 1, at a training step."""
    return "online" if of_initial_weights(initial_share, step) else "ema"


def bundle_of(checkpoint: Path, weights: str = "ema") -> Path:
    """Where `dexport` puts the bundle of a checkpoint unless told otherwise; the online weights beside the averaged."""
    return Path("bundles", checkpoint.stem if weights == "ema" else f"{checkpoint.stem}-{weights}")
