"""How near to real digits are the images that a checkpoint draws?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbench.quality.features import Features
from dbench.quality.features.pixels import PixelFeatures
from dbench.quality.frechet import frechet_distance
from dbench.suites.repa.cached import remember
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.samplers import step_table
from drun.diffusion.table import StepTable
from drun.errors import NotFiniteError
from drun.run.images import UInt8, to_uint8
from dtrain import published
from dtrain.published import Denoiser

SAMPLER = "euler"
#: Of the noise: the same for all checkpoints, so that curves differ by their networks and not by their luck.
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


@torch.no_grad()
def draw(denoiser: Denoiser, num_images: int, num_steps: int, device: torch.device) -> UInt8:
    """Images of every class in turn, without guidance, as `drun` draws them: (N, H, W, C) uint8.

    Raises:
        NotFiniteError: an image is NaN or infinite.
    """
    denoiser.network.to(device)
    table = step_table(SAMPLER, denoiser.card.process, denoiser.card.prediction, num_steps)
    batches = [range(first, min(first + BATCH, num_images)) for first in range(0, num_images, BATCH)]
    final = np.concatenate([_draw_batch(denoiser, table, indices, device) for indices in batches])
    if not np.isfinite(final).all():
        raise NotFiniteError("the network drew images that are NaN or infinite, expected finite ones: train it anew")
    return to_uint8(final)


def _draw_batch(denoiser: Denoiser, table: StepTable, indices: range, device: torch.device) -> np.ndarray[Any, Any]:
    noise = PhiloxNoise(NOISE_SEED, indices, denoiser.card.data.shape)

    def draw_noise() -> Tensor:
        return torch.from_numpy(noise()).to(device)

    classes = denoiser.card.classes
    labels = None if classes is None else torch.tensor(indices, device=device) % classes.count
    x: Tensor = sample(partial(_denoise, denoiser.network, labels), draw_noise(), table, draw_noise)
    return x.cpu().numpy()


def _denoise(network: torch.nn.Module, labels: Tensor | None, x: Tensor, t: float, w: float) -> Tensor:
    time = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
    output: Tensor = network(x, time) if labels is None else network(x, time, labels)
    return output
