"""Runs of 7 images into a folder, and what they left there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from openings import by

from drun.backends import null
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.diffusion import samplers
from drun.run.folder import run
from drun.run.opening import Opened
from drun.run.output import Output
from drun.run.session import Session
from drun.settings import SamplingSettings

ANCESTRAL = SamplingSettings("ddpm", samplers.resolve("ddpm", {}), num_steps=5, seed=3)


class Counted(null.Runtime):
    """The null backend, which notes its calls and stops at one of them if asked to."""

    def __init__(self, bundle: Bundle, stop_at: int | None = None) -> None:
        super().__init__(bundle)
        self.batches: list[int] = []
        self.stop_at = stop_at

    def predict(self, *inputs: Any) -> Any:
        self.batches.append(len(inputs[0]))
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        return super().predict(*inputs)


def draw(
    bundle: Bundle,
    folder: Path,
    settings: SamplingSettings = ANCESTRAL,
    opened: Opened | None = None,
    noise_file: Path | None = None,
    **output: Any,
) -> int:
    """Run 7 images in batches of 3, unless `output` says otherwise."""
    target = Output(**{"folder": folder, "num_images": 7, "batch": 3} | output)
    session = Session(bundle, opened or by(null.Runtime(bundle)))
    return run(session, session.sampling(settings, noise_file, target.num_images), target, silent)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} is not written"
        time.sleep(0.001)


def pngs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("0*.png"))}


def results(folder: Path) -> dict[str, bytes]:
    """Everything a finished run wrote except its record."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".png", ".npz")}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("0*.png")}


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))
