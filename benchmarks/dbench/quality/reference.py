"""The real images that samples are compared with, by default those that the model learned from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbench.quality.samples import Samples, kind
from drun.console import Report, silent
from drun.errors import ConfigError, DataError
from drun.run.images import UInt8
from dtrain.data.digits import DIGITS
from dtrain.data.pixels import decoded, fingerprint
from dtrain.data.sources import ImageSource, LabelsAndNames, open_source

Indices = NDArray[np.int64]
Shape = tuple[int, int, int]

ADVICE = "say with --reference what to compare with: a folder, a .zip, .npz, .npy or idx file, or digits"


@dataclass(frozen=True)
class Reference:
    """Images that may lie on a disk."""

    source: str  # as the user named it
    num_images: int
    shape: Shape  # (H, W, C)
    fingerprint: str  # changes when the images do
    read: Callable[[Indices], UInt8]  # (n,) in 0..num_images - 1 -> (n, H, W, C)
    labels: Callable[[], LabelsAndNames]  # (num_images,), and the names of the classes
    learned: bool = False  # whether the model learned from them

    @property
    def name(self) -> str:
        """The name for publication: an absolute path is cut to its last name."""
        path = Path(self.source)
        return path.name if path.is_absolute() else self.source

    @property
    def title(self) -> str:
        """The words after "from the real", as in "from the real digits to noise"."""
        if self.learned:
            return "the training images"
        return "real digits" if self.source == DIGITS else f"the images of '{self.name}'"


def ignore(message: str) -> None:
    """Discard a note."""


def open_reference(
    source: str | None, samples: Samples, report: Report = silent, note: Callable[[str], None] = ignore
) -> Reference:
    """Real images, prepared as for training, of the size and the channels of the samples.

    Args:
        source: as for training; None is what the model learned from, as run.json says.
        note: is called with a text if the named images have another kind than the samples, or are not those that the
            model learned from.

    Raises:
        ConfigError: nothing says what the model learned from. DataError: that is no longer there or has changed, or
            the images cannot be read.
    """
    shape: Shape = samples.images.shape[1:]
    if source is None:
        return _trained_on(samples, shape, report)
    reference = _opened(source, shape, report, note)
    trained = samples.trained_on
    if trained is not None and trained.fingerprint == reference.fingerprint:
        return replace(reference, learned=True)
    if trained is not None:
        learned = f"{trained.num_images:,} images of '{trained.source}'"
        note(f"the model learned from {learned}, these {reference.num_images:,} are others")
    return reference


def _trained_on(samples: Samples, shape: Shape, report: Report) -> Reference:
    trained = samples.trained_on
    if trained is None:
        raise ConfigError(f"'{samples.file}' does not say which images its model learned from: {ADVICE}")
    if trained.source != DIGITS and not Path(trained.source).exists():
        raise DataError(f"the images that the model learned from are no longer at '{trained.source}': {ADVICE}")
    reference = _opened(trained.source, shape, report, ignore)
    if reference.fingerprint != trained.fingerprint:
        raise DataError(f"'{trained.source}' no longer holds the images that the model learned from: {ADVICE}")
    return replace(reference, learned=True)


def _opened(source: str, shape: Shape, report: Report, note: Callable[[str], None]) -> Reference:
    """note: called with a text if the images are of another kind than the samples."""
    from dtrain.data.latents import are_latents  # needs torch

    if are_latents(Path(source)):
        return _of_latents(source, shape)
    found = open_source(source)
    look = found.look(0)
    held = look.height, look.width, 1 if look.is_grey else 3
    if held != shape:
        cut = ", of their centre," if look.height != look.width else ""
        note(
            f"the real images of '{source}' have {kind(held)}, the samples {kind(shape)}: the real ones are compared "
            f"as they would be trained on{cut} at the samples' size and in their colours"
        )
    return _of_pixels(source, found, decoded(found, shape[0], shape[2], report))


def _of_pixels(source: str, found: ImageSource, images: UInt8) -> Reference:
    return Reference(source, len(images), images.shape[1:], fingerprint(images), images.__getitem__, found.labels)


def _of_latents(source: str, shape: Shape) -> Reference:
    """The pictures behind latents."""
    from dtrain.data.latents import open_latents

    latents = open_latents(Path(source))
    if latents.images is None:
        raise DataError(f"'{source}' holds latents without their images: {ADVICE}")
    held = (latents.image_size, latents.image_size, 3)
    if held != shape:
        raise DataError(f"the images of '{source}' have {kind(held)}, the samples {kind(shape)}: {ADVICE}")
    labels = latents.labels, list(latents.class_names) or None
    return Reference(source, len(latents), held, latents.fingerprint, latents.images, lambda: labels)
