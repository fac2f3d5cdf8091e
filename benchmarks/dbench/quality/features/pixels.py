"""Raw pixels of images made small: no network, so nothing to download and nothing that was trained on photos."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dbench.quality.features import Extractor, Features, Shape, UInt8

#: Largest side of the small images; larger ones describe single pixels rather than the content.
MAX_SIDE = 8
IMAGES_A_DIMENSION = 8


@dataclass(frozen=True)
class PixelFeatures:
    """The mean of each of `side` x `side` boxes in each channel, in [0, 1]: D = side^2 C."""

    side: int
    channels: int = 1

    @property
    def name(self) -> str:
        return f"{self.side}x{self.side} pixels"

    @property
    def unit(self) -> str:
        return f"squared pixel values, {self.side}x{self.side}"

    @property
    def num_images(self) -> int:
        return IMAGES_A_DIMENSION * self.side**2 * self.channels

    def __call__(self, images: UInt8) -> Features:
        num, height, width, channels = images.shape
        rows = boxes(height, self.side) @ images.reshape(num, height, width * channels).astype(np.float64)
        means = boxes(width, self.side) @ rows.reshape(num, self.side, width, channels)
        features: Features = means.reshape(num, -1) / 255
        return features


def choose(num_images: int | None, shape: Shape) -> Extractor:
    """The largest side, up to 8, whose covariance has 8 images a dimension."""
    height, width, channels = shape
    side = min(MAX_SIDE, height, width)
    if num_images is not None:
        side = min(side, math.isqrt(num_images // (IMAGES_A_DIMENSION * channels)))
    return PixelFeatures(max(1, side), channels)


def boxes(length: int, side: int) -> Features:
    """(side, length) weights of the mean over equal boxes, which may cut through pixels; each row sums to 1."""
    edges, pixels = np.arange(side + 1) * length / side, np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: Features = overlap.clip(0) * side / length
    return weights
