"""The features in which distances are measured: raw pixels, and a network's where one was named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dbench.quality.features import Features, pixels
from dbench.quality.frechet import frechet_distance
from dbench.quality.scale import between_sets
from dbench.suites.repa.real import RealImages
from dtrain.teachers import Teacher

PIXELS, NETWORK = "pixels", "features"
#: How often real images are divided for the floor.
SPLITS = 10
BATCH = 256


@dataclass(frozen=True)
class Eyes:
    """One way to see images.

    Args:
        kind: PIXELS or NETWORK. name: in words. fingerprint: of everything that the features depend on.
        images: fingerprint of the real ones. reference: (N, D) features of them. floor: distances of real images to
            real images.
    """

    kind: str
    name: str
    fingerprint: str
    images: str
    see: Callable[[NDArray[np.uint8]], Features]
    reference: Features
    floor: tuple[float, ...]

    def distance(self, images: NDArray[np.uint8]) -> float:
        """The Fréchet distance of images to the real ones; (N, H, W, C)."""
        return frechet_distance(self.see(images), self.reference)


def of_pixels(real: RealImages, samples: int) -> Eyes:
    """Means of boxes, at most 8x8."""
    extractor = pixels.choose(None, real.images.shape[1:])
    return _opened(PIXELS, extractor.name, extractor.name, extractor, real, samples)


def of_network(teacher: Teacher, real: RealImages, samples: int) -> Eyes:
    """The mean of a network's tokens."""

    def see(images: NDArray[np.uint8]) -> Features:
        batches = (torch.from_numpy(images[first : first + BATCH]) for first in range(0, len(images), BATCH))
        return torch.cat([teacher(batch).mean(dim=1).cpu() for batch in batches]).double().numpy()

    name = f"{teacher.dim} features of {teacher.name}"
    return _opened(NETWORK, name, teacher.fingerprint, see, real, samples)


def _opened(
    kind: str,
    name: str,
    fingerprint: str,
    see: Callable[[NDArray[np.uint8]], Features],
    real: RealImages,
    samples: int,
) -> Eyes:
    seen = see(real.images)
    size = min(samples, len(seen) // 2)
    floor = tuple(between_sets(seen, size, SPLITS))
    return Eyes(kind, name, fingerprint, real.fingerprint, see, seen[: len(real.reference)], floor)
