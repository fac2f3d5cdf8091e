"""The real images of a comparison: those that distances are measured to, and those that blocks are read with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drun.console import Report
from dtrain.config import Recipe
from dtrain.data.opening import pixel_channels
from dtrain.data.pixels import decoded, fingerprint
from dtrain.data.sources import open_source

SEED = 0
#: How many images distances are measured to, and how many blocks are read with.
MOST_REFERENCE, MOST_READ = 10_000, 2_000


@dataclass(frozen=True)
class RealImages:
    """A random choice of the images that the runs learn from.

    images: (N, H, W, C) uint8, the reference first, then those that the floor needs. labels: (N,) or None.
    fingerprint: of all images, chosen or not.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    fingerprint: str

    @property
    def reference(self) -> NDArray[np.uint8]:
        return self.images[:MOST_REFERENCE]

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Images with their labels, to read blocks with."""
        return self.images[:MOST_READ], None if self.labels is None else self.labels[:MOST_READ]


def open_real(recipe: Recipe, samples: int, report: Report) -> RealImages:
    """As many images as the reference and a set of samples have, if there are so many.

    Raises:
        ConfigError: a model of latents. DataError: no images, or damaged ones.
    """
    channels, source = pixel_channels(recipe), open_source(recipe.data.source)
    images = decoded(source, recipe.data.image_size, channels, report)
    chosen = np.random.default_rng(SEED).permutation(len(images))[: MOST_REFERENCE + samples]
    labels, _ = source.labels()
    return RealImages(images[chosen], None if labels is None else labels[chosen], fingerprint(images))
