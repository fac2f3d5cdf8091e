"""The batches of training steps: which images they hold, in which symmetries and in which range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.errors import ConfigError


def batch_indices(num_images: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """The images that step number `step` (from 0) trains on: int64 (batch_size,) in 0..num_images - 1.

    The data order is an endless row of permutations, one per epoch, drawn from (seed, epoch); a batch may
    straddle two. It depends on nothing but the arguments, so a resumed run goes on where it stopped.
    """
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), num_images)
    orders = [(epoch, _permutation(num_images, seed, epoch)) for epoch in np.unique(epochs).tolist()]
    return np.concatenate([order[places[epochs == epoch]] for epoch, order in orders])


@lru_cache(maxsize=2)
def _permutation(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_images)


# Each symmetry is applied to half of the images, independently of the others.
AUGMENTATIONS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "hflip": (lambda images: images.flip(-1),),
    "vflip": (lambda images: images.flip(-2),),
    "rot90": (lambda images: images.flip(-1, -2), lambda images: images.rot90(1, (-2, -1))),
}


def augment(batch: Tensor, modes: Sequence[str], toss: Callable[[], Tensor]) -> Tensor:
    """Symmetries drawn for each image: a flip with probability 1/2, one of the four quarter turns with 1/4.

    batch: (N, C, H, W) of any dtype, on any device, H = W for rot90; modes: hflip, vflip, rot90;
    toss: gives the next (N,) bool, each true with probability 1/2.

    Raises ConfigError for an unknown mode, and for rot90 of oblong images.
    """
    unknown = [mode for mode in modes if mode not in AUGMENTATIONS]
    if unknown:
        raise ConfigError(f"unknown augmentation {unknown[0]!r}: choose from {', '.join(AUGMENTATIONS)}")
    height, width = batch.shape[-2:]
    if "rot90" in modes and height != width:
        raise ConfigError(f"rot90 needs square images, got {height}x{width} pixels: use hflip and vflip")
    for symmetry in (symmetry for mode in modes for symmetry in AUGMENTATIONS[mode]):
        batch = torch.where(toss().to(batch.device)[:, None, None, None], symmetry(batch), batch)
    return batch
