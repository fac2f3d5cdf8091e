"""Extractors of the features by which images are compared; the file name is the extractor's name.

Such a file holds `choose(num_images, shape) -> Extractor`: the extractor for sets of at least `num_images` images
(None: of any number, where no covariance is asked for) of `shape` (H, W, C).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Features = NDArray[np.float64]
Shape = tuple[int, int, int]

#: Pixel values that are computed with at once (32 MB in float64)
BLOCK_VALUES = 2**22


class Extractor(Protocol):
    """Images of any size -> vectors."""

    @property
    def name(self) -> str:
        """As in "Fréchet distance on ..."."""

    @property
    def unit(self) -> str:
        """Unit of a squared distance."""

    @property
    def num_images(self) -> int:
        """How many images a set needs: with fewer, its covariance depends too much on the choice of images."""

    def __call__(self, images: UInt8) -> Features:
        """(N, H, W, C) uint8 -> (N, D) float64. Each image's vector depends on no other image."""


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def choose(name: str, num_images: int | None, shape: Shape) -> Extractor:
    """The extractor of a file, for sets of this many images."""
    extractor: Extractor = import_module(f"{__name__}.{name}").choose(num_images, shape)
    return extractor


def extract(extractor: Extractor, read: Callable[[slice], UInt8], num_images: int, shape: Shape) -> Features:
    """(num_images, D) float64, block by block: images may lie on a disk.

    read: a slice of 0..num_images -> (n, *shape) uint8.
    """
    height = max(1, BLOCK_VALUES // int(np.prod(shape)))
    parts = (slice(first, min(first + height, num_images)) for first in range(0, num_images, height))
    return np.concatenate([extractor(read(part)) for part in parts])
