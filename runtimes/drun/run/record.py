"""`run.json` records everything that the images of a folder depend on, so that no other images are taken for them."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from drun.bundle.artifact import Artifact
from drun.bundle.manifest import MANIFEST
from drun.console import warn
from drun.errors import ConfigError
from drun.files import locked, sha256, write_json
from drun.foreign import read_json
from drun.run.opening import decoder_candidate
from drun.run.output import Output
from drun.run.sampling import Sampling
from drun.run.session import Session
from drun.settings import SamplingSettings
from drun.version import VERSION

#: The key of the sha256 of a run's animation, whose file may lie anywhere.
ANIMATION = "animation_sha256"


def claim(session: Session, sampling: Sampling, output: Output, computes: bool = True) -> None:
    """Write `run.json`, or refuse a folder whose images were made with other or unknown settings.

    Args:
        computes: whether images are about to be computed, `output.batch` at a time.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    with locked(output.folder, wait=True):  # several shards may begin at the same time
        _claim(session, sampling, output, computes)


def _claim(session: Session, sampling: Sampling, output: Output, computes: bool) -> None:
    folder, path = output.folder, output.folder / "run.json"
    if (folder / MANIFEST).is_file():
        raise ConfigError(f"'{folder}' is a bundle, which images would damage: choose another --out")
    previous: dict[str, Any] = {}
    identity = json.loads(json.dumps(_identity(session, sampling.settings)))  # in the form in which it is read back
    if path.exists():
        previous = read_json(path, ConfigError, "delete the folder, or choose another --out")
        found = previous.get("settings")
        settings = found if isinstance(found, dict) else {}
        for key, value in identity.items():
            if key not in settings or settings[key] != value:
                raise ConfigError(
                    f"'{folder}' holds images made with {key} = {settings.get(key)}, this run has {value}: "
                    "choose another --out, or delete the folder"
                )
    elif found := _left_images(folder):
        raise ConfigError(
            f"'{folder}' holds '{found}', and no run.json says how it was made: choose another --out, or move it away"
        )
    kept = {key: previous[key] for key in (ANIMATION,) if key in previous}
    batches = sorted({*_batches(previous), *([output.batch] if computes else [])})
    if len(batches) > 1:
        warn(
            f"the images of '{folder}' are computed {' and '.join(map(str, batches))} at a time: they agree within the "
            "tolerance, not byte for byte"
        )
    trained_on = session.bundle.manifest.trained_on
    own = {
        "settings": identity,
        "num_images": output.num_images,
        "batches": batches,
        # This is not among the settings: a bundle that gains an artifact draws the same images.
        "bundle_sha256": session.bundle.sha256,
        "runs_on": session.opened.describe(),
        "trained_on": None if trained_on is None else asdict(trained_on),
    }
    write_json(path, own | environment() | kept)


def _batches(record: dict[str, Any]) -> list[int]:
    """The batches in which the images of a folder were computed."""
    batches = record.get("batches")
    return [batch for batch in batches if type(batch) is int] if isinstance(batches, list) else []


def is_animated(output: Output) -> bool:
    """Whether the animation is there and belongs to this run."""
    path = output.trajectory
    if path is None or not path.is_file() or not (output.folder / "run.json").is_file():
        return False
    return bool(read_json(output.folder / "run.json").get(ANIMATION) == sha256(path))


def note_animation(output: Output) -> None:
    """Record that the animation belongs to this run."""
    if output.trajectory is not None:
        with locked(output.folder, wait=True):
            record = read_json(output.folder / "run.json")
            write_json(output.folder / "run.json", record | {ANIMATION: sha256(output.trajectory)})


def _identity(session: Session, settings: SamplingSettings) -> dict[str, Any]:
    """Everything that an image depends on, except the libraries and the machine."""
    manifest, opened = session.bundle.manifest, session.opened
    decoder = decoder_candidate(session.bundle, opened)
    model = {key: getattr(manifest, key) for key in ("process", "prediction", "variance", "guidance")}
    classes = None if manifest.classes is None else asdict(manifest.classes)
    source = {
        "checkpoint_sha256": manifest.model.checkpoint["sha256"],
        "weights": manifest.model.checkpoint["weights"],
        "graph_sha256": _hashes(opened.artifact),
        "decoder_sha256": _hashes(decoder.artifact if decoder else None),
        "backend": opened.name,
        "precision": opened.arithmetic,
    }
    return source | model | {"data": asdict(manifest.data), "classes": classes} | asdict(settings)


def _hashes(artifact: Artifact | None) -> list[str] | None:
    return None if artifact is None else [entry.sha256 for entry in artifact.files]


def _left_images(folder: Path) -> str | None:
    """A file that looks like the file of a run, which would be taken for one or overwritten."""
    for name in ("samples.npz", "grid.png", "raw.npz"):
        if (folder / name).exists():
            return name
    for place, suffix in ((folder, ".png"), (folder / "raw", ".npz")):
        if place.is_dir():
            for path in place.iterdir():
                if re.fullmatch(r"\d{6,}", path.stem) and path.suffix == suffix:
                    return path.name
    return None


def environment() -> dict[str, Any]:
    """The machine and library versions, for run.json."""
    return {
        "versions": {"dexport": VERSION, "numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}",
        "command": sys.argv,
    }
