"""Samples of `drun` or of another tool: an array in a file, or pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.card import Classes
from drun.bundle.manifest import TrainedOn
from drun.console import Report, silent
from drun.errors import DataError, door
from drun.foreign import read_json
from drun.run import labels
from drun.run.images import UInt8
from drun.typed import typed
from dtrain.data.image_files import MAX_PIXELS, pixel_limit
from dtrain.data.sources import ImageSource, open_source

ARCHIVE, RECORD = "samples.npz", "run.json"


@dataclass(frozen=True)
class Samples:
    file: Path  # or the folder that was read
    images: UInt8  # (N, H, W, C)
    record: dict[str, Any] = field(default_factory=dict)  # run.json of drun, if there is one

    @property
    def name(self) -> str:
        """Name of the folder that drun wrote, or of the file."""
        file = self.file.resolve()
        return file.parent.name if file.name == ARCHIVE else file.stem

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with which drun drew them; empty for samples of other tools."""
        settings = self.record.get("settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def trained_on(self) -> TrainedOn | None:
        """What the model learned from, if the record says it. Raises DataError for a record that is damaged."""
        with door(f"'{self.file.parent}' has no {RECORD} of drun", advice="draw the samples again"):
            trained_on: TrainedOn | None = typed(TrainedOn | None, self.record.get("trained_on"), "trained_on")
            return trained_on

    @property
    def classes(self) -> Classes | None:
        """The classes of the model, if drun drew the samples. Raises DataError for a record that is damaged."""
        with door(f"'{self.file.parent}' has no {RECORD} of drun", advice="draw the samples again"):
            classes: Classes | None = typed(Classes | None, self.settings.get("classes"), "classes")
            return classes

    def labels(self) -> NDArray[np.int64] | None:
        """(N,) the class that each sample should show, if drun drew them and the model has classes.

        Raises as `classes` does.
        """
        settings, classes = self.settings, self.classes
        if classes is None:
            return None
        with door(f"'{self.file.parent}' has no {RECORD} of drun", advice="draw the samples again"):
            return labels.choose(settings["labels"], range(len(self.images)), classes, settings["seed"])


def open_samples(path: Path, report: Report = silent) -> Samples:
    """A folder that `drun` wrote, or an .npz, .npy, .zip, idx file or folder of square images of one size.

    Raises:
        DataError: there are none or one, they are damaged, of several sizes, or something else than images.
    """
    record = _record(path)
    is_of_drun = path.is_dir() and (record is not None or (path / ARCHIVE).is_file())
    file = path / ARCHIVE if is_of_drun else path
    if not file.exists():
        unfinished = ": the run is not finished, repeat its command" if record is not None else ""
        draw = ": draw them with 'drun --bundle BUNDLE -n 512 --out DIR', or give an .npz, .npy, .zip or folder"
        raise DataError(f"no samples at '{file}'{unfinished or draw}")
    images = _read(file, report)
    _check(images, file)
    return Samples(file, images, record or {})


def kind(shape: tuple[int, ...]) -> str:
    """(H, W, C) in words."""
    return f"{shape[1]}x{shape[0]} pixels in {'grey' if shape[2] == 1 else 'colour'}"


def _record(path: Path) -> dict[str, Any] | None:
    """The run.json of samples that drun wrote, if there is one."""
    if not path.is_dir() and path.name != ARCHIVE:
        return None
    record = (path if path.is_dir() else path.parent) / RECORD
    return read_json(record) if record.is_file() else None


def _read(file: Path, report: Report) -> UInt8:
    """The samples, (N, H, W, C), unchanged."""
    source = open_source(file)
    if source.stack is not None:
        images = source.stack.images()
        return images if images.ndim == 4 else images[..., None]
    with pixel_limit(MAX_PIXELS):
        return _stacked(source, report)


def _stacked(source: ImageSource, report: Report) -> UInt8:
    """Pictures of one size and mode."""
    num, first = len(source.names), np.atleast_3d(np.asarray(source.read(0)))
    images = np.empty((num, *first.shape), np.uint8)
    for i, name in enumerate(source.names):
        pixels = np.atleast_3d(np.asarray(source.read(i)))
        if pixels.shape != first.shape:
            raise DataError(
                f"the samples in '{source.path}' are of several kinds: '{source.names[0]}' has {kind(first.shape)}, "
                f"'{name}' {kind(pixels.shape)}; compare each kind alone"
            )
        images[i] = pixels
        report("reading samples", i + 1, num)
    return images


def _check(images: UInt8, file: Path) -> None:
    num, height, width, _ = images.shape
    if height != width:
        raise DataError(f"the samples in '{file}' have {width}x{height} pixels, expected squares: crop them")
    if num < 2:
        raise DataError(f"'{file}' holds {num} sample, a covariance needs at least 2: draw 512")
