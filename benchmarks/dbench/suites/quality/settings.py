"""The settings of `dbench quality`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option


@dataclass(frozen=True)
class QualitySettings:
    #: as `dbench.quality.samples.open_samples` reads it
    samples: Path = argument("Folder that drun wrote, or an .npz, .npy, .zip or folder of images.")
    #: as `dbench.quality.reference.open_reference` reads it; None: what the model learned from
    reference: str | None = option(
        None,
        "Real images to compare with (default: those that the model learned from).",
        metavar="FOLDER|FILE|digits",
    )
    splits: int = 20  # random choices of the real images that are set apart
    features: str = "pixels"  # a file of dbench/quality/features
