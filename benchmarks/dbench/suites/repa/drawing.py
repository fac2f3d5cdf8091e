"""Measures how near a checkpoint's images are to real digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dbench.quality.features import Features
from dbench.quality.features.pixels import PixelFeatures
from dbench.quality.frechet import frechet_distance
from dbench.suites.repa.cached import remember
from drun.errors import NotFiniteError
from drun.run.images import UInt8, to_uint8
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain import published
from dtrain.eager import EagerNetwork
from dtrain.published import Denoiser

SAMPLER = "euler"
#: Seed of the noise: the same for all checkpoints, so that curves differ by their networks and not by luck.
NOISE_SEED = 0
BATCH = 128


def distance(checkpoint: Path, real: Features, num_images: int, num_steps: int, device: torch.device) -> float:
    """Fréchet distance of images drawn with a checkpoint's averaged weights to `real`, on raw 8x8 pixels.

    real: (N, 64) in [0, 1], as `grey_8x8` gives. The distance is in squared pixel values; it is kept beside the
    checkpoint.

    Raises:
        NotFiniteError: the network gives NaN or infinity. CheckpointError: it cannot be read.
    """
    settings = {"sampler": SAMPLER, "noise_seed": NOISE_SEED, "samples": num_images, "sampling_steps": num_steps}

    def measure() -> dict[str, Any]:
        images = draw(published.load(checkpoint), num_images, num_steps, device)
        return {"frechet_distance": frechet_distance(grey_8x8(images), real)}

    try:
        return float(remember(checkpoint, "frechet", settings, measure)["frechet_distance"])
    except NotFiniteError as error:
        raise NotFiniteError(f"'{checkpoint}': {error}") from error


def grey_8x8(images: UInt8) -> Features:
    """(N, H, W, C) uint8 -> (N, 64) float64 in [0, 1]: what the real digits are, 8x8 grey levels."""
    grey: Features = PixelFeatures(8, images.shape[3])(images).reshape(len(images), 64, -1).mean(axis=2)
    return grey


def draw(denoiser: Denoiser, num_images: int, num_steps: int, device: torch.device) -> UInt8:
    """Images of every class in turn, without guidance, as `drun` draws them: (N, H, W, C) uint8.

    Raises:
        NotFiniteError: an image is NaN or infinite.
    """
    settings = SamplingSettings(SAMPLER, {}, num_steps, NOISE_SEED)
    sampling = Sampling(denoiser.card, EagerNetwork(denoiser.network, device), settings)
    batches = [range(first, min(first + BATCH, num_images)) for first in range(0, num_images, BATCH)]
    return to_uint8(np.concatenate([sampling.draw(indices) for indices in batches]))
