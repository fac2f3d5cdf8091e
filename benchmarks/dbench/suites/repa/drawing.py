"""Measures how near a checkpoint's images are to real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dbench.suites.repa.cached import remember
from dbench.suites.repa.eyes import Eyes
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


def distances(
    checkpoint: Path, eyes: Sequence[Eyes], num_images: int, num_steps: int, device: torch.device
) -> dict[str, float]:
    """Fréchet distances of images drawn with a checkpoint's averaged weights: by the kind of the eyes.

    They are kept beside the checkpoint.

    Raises:
        NotFiniteError: the network gives NaN or infinity. CheckpointError: it cannot be read.
    """
    settings = {"sampler": SAMPLER, "noise_seed": NOISE_SEED, "samples": num_images, "sampling_steps": num_steps}
    settings |= {one.kind: [one.fingerprint, one.images, len(one.reference)] for one in eyes}

    def measure() -> dict[str, float]:
        images = draw(published.load(checkpoint), range(num_images), num_steps, device)
        return {one.kind: one.distance(images) for one in eyes}

    try:
        return {kind: float(found) for kind, found in remember(checkpoint, "frechet", settings, measure).items()}
    except NotFiniteError as error:
        raise NotFiniteError(f"'{checkpoint}': {error}") from error


def draw(denoiser: Denoiser, indices: range, num_steps: int, device: torch.device) -> UInt8:
    """Images of every class in turn, without guidance, as `drun` draws them: (N, H, W, C) uint8.

    Where the real images have more of one class than of another, all arms are as far from that.

    Raises:
        NotFiniteError: an image is NaN or infinite.
    """
    settings = SamplingSettings(SAMPLER, {}, num_steps, NOISE_SEED)
    sampling = Sampling(denoiser.card, EagerNetwork(denoiser.network, device), settings)
    batches = [indices[first : first + BATCH] for first in range(0, len(indices), BATCH)]
    return to_uint8(np.concatenate([sampling.draw(batch) for batch in batches]))
