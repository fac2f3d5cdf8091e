"""Measures what a checkpoint's blocks know about images, and whether they see them as the teacher does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dbench.quality.alignment import cknna
from dbench.quality.probe import linear_probe
from dbench.quality.representation import layer_features
from dbench.suites.repa.cached import remember
from dbench.suites.repa.plan import DEPTHS
from dbench.suites.repa.real import RealImages
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError
from dtrain import published
from dtrain.models.vae import to_model_range
from dtrain.teachers import Teacher

#: As in REPA (Yu et al. 2024), there among 10,000 images.
NEIGHBOURS = 10
#: Seed of the split into halves and of the noise on the images.
SEED = 0
BATCH = 128

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SeenImages:
    """Real images, and the teacher's features of them."""

    images: NDArray[np.uint8]  # (N, H, W, C)
    fingerprint: str  # of all real images
    labels: NDArray[np.int64] | None  # (N,)
    teacher: Features  # (N, D), the mean over tokens
    teacher_name: str
    teacher_fingerprint: str

    def probe(self, features: Features) -> float | None:
        """The share of one random half that a linear layer, trained on the other half, gets right; (N, D) -> [0, 1].

        None: nobody says what the images show.
        """
        if self.labels is None:
            return None
        order = np.random.default_rng(SEED).permutation(len(self.labels))
        train, test = np.array_split(order, 2)
        return linear_probe(features[train], self.labels[train], features[test], self.labels[test], seed=SEED)

    def alignment(self, features: Features) -> float:
        """CKNNA with the teacher; (N, D)."""
        return cknna(features.astype(np.float64), self.teacher.astype(np.float64), NEIGHBOURS)

    def pixels(self) -> Features:
        """The images themselves as features, (N, H W C) float64 in [0, 1]."""
        flat: Features = self.images.reshape(len(self.images), -1) / 255
        return flat


def seen_by(teacher: Teacher, real: RealImages) -> SeenImages:
    """The images that blocks are read with, and a teacher's features of them."""
    images, labels = real.read()
    batches = (torch.from_numpy(images[first : first + BATCH]) for first in range(0, len(images), BATCH))
    tokens = torch.cat([teacher(batch).mean(dim=1).cpu() for batch in batches])
    return SeenImages(images, real.fingerprint, labels, tokens.numpy(), teacher.name, teacher.fingerprint)


def references(seen: SeenImages) -> dict[str, float | None]:
    """References for the blocks: the probe on the teacher and on pixels, and the alignment of pixels."""
    return {
        "teacher_probe": seen.probe(seen.teacher),
        "pixels_probe": seen.probe(seen.pixels()),
        "pixels_alignment": seen.alignment(seen.pixels()),
    }


def blocks(checkpoint: Path, seen: SeenImages, device: torch.device) -> dict[str, list[list[float]]]:
    """`probe` (shares of 1; nothing without labels) and `alignment` of every block of a checkpoint's averaged weights.

    The images are noised to each of DEPTHS, the label is the null label, features are means over the tokens. The
    record is kept beside the checkpoint.

    Returns:
        Name -> [depth in noise][block].

    Raises:
        ConfigError: a network without blocks, or no flow.
    """
    settings = {
        "depths": list(DEPTHS),
        "neighbours": NEIGHBOURS,
        "seed": SEED,
        "teacher": seen.teacher_fingerprint,
        "images": [seen.fingerprint, len(seen.images)],
    }

    def measure() -> dict[str, Any]:
        denoiser = published.load(checkpoint)
        by_depth = [_features(denoiser, seen, depth, device) for depth in DEPTHS]
        return {
            "probe": [[seen.probe(block) for block in depth] for depth in by_depth if seen.labels is not None],
            "alignment": [[seen.alignment(block) for block in depth] for depth in by_depth],
        }

    return remember(checkpoint, "layers", settings, measure)


def _features(denoiser: published.Denoiser, seen: SeenImages, depth: float, device: torch.device) -> list[Features]:
    process, network = denoiser.card.process, denoiser.network.to(device)
    if not isinstance(process, FlowProcess):
        raise ConfigError(f"blocks are read at depths of a flow, got {process.to_dict()['kind']}: keep process.kind")
    layers = range(1, len(network.blocks) + 1)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(SEED)
    x0 = to_model_range(torch.from_numpy(seen.images))
    found = layer_features(network, layers, x0, None, process, process.at_depth(depth), generator, BATCH)
    return [found[layer].numpy() for layer in layers]
