"""Bundles of real networks, for all tests that need one."""

from __future__ import annotations

from pathlib import Path

from dexport.proof import Proof, full_proof
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order, Written
from drun.bundle import reading as bundles
from drun.console import silent
from dtrain import published

#: Checks of a full proof: calls at 5 states and both ends of time, in batches of 1 and 3, and two trajectories.
FULL_CHECKS = (5 + 2) * 2 + 2
#: And of a quick one: calls at 2 states and both ends, in batches of 1, and one trajectory.
QUICK_CHECKS = (2 + 2) * 1 + 1
#: Traced in half the time of a dynamic batch.
STATIC = (2, 2)


def export(
    trained: Trained, out: Path, target: str = "onnx", batch: tuple[int, int] = (1, 8), proof: Proof | None = None
) -> Written:
    """Export to `out`, with a short proof unless another is asked for."""
    return create_bundle(trained, Order(target, "fp32", batch), out, proof or full_proof(3), silent)


def load_trained(checkpoint: Path, weights: str = "ema", **settings: str) -> Trained:
    return Trained(published.load(checkpoint, weights, settings), checkpoint)


def ids(path: Path) -> list[str]:
    """The identities of a bundle's artifacts, in its order."""
    return [artifact.id for artifact in bundles.read(path).manifest.artifacts]


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
