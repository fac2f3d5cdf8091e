"""Representation alignment (REPA: Yu et al. 2025), added to any denoising objective.

The tokens after block `encoder_depth` pass a projector and are drawn towards the features that pretrained teachers
see in the clean image. From the follow-ups: a convolution with spatial normalisation (iREPA: Singh et al. 2025) and
an end of the alignment (HASTE: Wang et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from drun.console import Report
from drun.diffusion.process import Process
from drun.errors import ConfigError, DataError
from dtrain import teachers as teacher_registry
from dtrain.data.dataset import Dataset
from dtrain.objectives import Batch, Denoising, Losses, Plain, build
from dtrain.teachers import cache as feature_cache
from dtrain.teachers import check_tokens

PROJECTORS = ("mlp", "conv")
ENCODER_DEPTH = 8
#: Length of a vector that is taken for none.
SHORTEST = 1e-12
#: How many images a teacher sees at a time while a cache is filled.
CACHED_AT_ONCE = 64


class Objective(Plain):
    """base + weight * alignment.

    Args:
        process: the process of the base. device: the device of the teachers.
        base: `name` and options of a denoising objective.
        teachers: published ones such as dinov2-vit-b, name=FOLDER, or runs of our own encoders; one projector each.
        image_size: side of the pictures, pixels.
        encoder_depth: the aligned block, 1 is the first (the papers: 4 for B, 8 for L and XL).
        weight: lambda of the paper, 0.5 there.
        similarity: `cosine`, or `nt_xent`: each token must find its own feature among those of its image.
        temperature: of nt_xent.
        projector: `mlp` (three layers, two SiLU) or `conv` (one 3x3 convolution).
        projector_width: of the hidden layers of `mlp`.
        spatial_norm: gamma of iREPA, 0.6 there: features become (z - gamma mean) / std over the image; 0 is off.
        stop_after: steps of alignment; 0 is all.
        cache: folder for the teachers' features, computed once and read from disk then; empty: teachers look at every
            batch.

    Raises:
        ConfigError: a wrong option, or a base that trains no denoiser.
    """

    def __init__(
        self,
        process: Process,
        device: torch.device,
        base: Mapping[str, Any],
        teachers: Sequence[str],
        image_size: int,
        encoder_depth: int = ENCODER_DEPTH,
        weight: float = 0.5,
        similarity: str = "cosine",
        temperature: float = 0.1,
        projector: str = "mlp",
        projector_width: int = 2048,
        spatial_norm: float = 0.0,
        stop_after: int = 0,
        cache: str = "",
    ) -> None:
        built = build(base, process, device)
        if not isinstance(built, Denoising):
            raise ConfigError(f"objective.base '{base.get('name')}' trains no denoiser: choose flow or ddpm")
        for key, value, choices in (
            ("similarity", similarity, SIMILARITIES),
            ("projector", projector, PROJECTORS),
        ):
            if value not in choices:
                raise ConfigError(f"objective.{key} got '{value}', expected one of {', '.join(choices)}")
        if not teachers:
            raise ConfigError("objective.teachers is empty: name at least one, such as dinov2-vit-b")
        self.base, self.prediction = built, built.prediction
        self.teachers = [teacher_registry.load(spec, image_size, device) for spec in teachers]
        self.dims = [teacher.dim for teacher in self.teachers]
        self.encoder_depth, self.weight, self.stop_after = encoder_depth, weight, stop_after
        self.distance, self.temperature = SIMILARITIES[similarity], temperature
        self.projector, self.projector_width, self.spatial_norm = projector, projector_width, spatial_norm
        self.cache = Path(cache) if cache else None
        self.cached: list[feature_cache.Features] = []
        self.checked = False
        self.aligned: Aligned | None = None

    def aligns(self, step: int) -> bool:
        """Whether the alignment has not ended yet."""
        return self.stop_after == 0 or step < self.stop_after

    def needs_pictures(self, step: int) -> bool:
        return self.aligns(step) and not self.cached

    def wrap(self, network: nn.Module) -> nn.Module:
        blocks = getattr(network, "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            name = type(network).__name__
            raise ConfigError(f"repa aligns a block of a transformer, {name} has none: use a SiT or DiT")
        depth = self.encoder_depth
        if not 1 <= depth <= len(blocks):
            raise ConfigError(f"objective.encoder_depth got {depth}, the network has blocks 1 to {len(blocks)}")
        transformer: Any = network
        for teacher in self.teachers:
            check_tokens(teacher, transformer.num_tokens)
        projectors = [self._project(transformer.hidden_size, dim) for dim in self.dims]
        self.aligned = Aligned(network, self.encoder_depth, projectors)
        return self.aligned

    def _project(self, hidden_size: int, dim: int) -> nn.Module:
        if self.projector == "conv":
            return ConvProjector(hidden_size, dim)
        return mlp_projector(hidden_size, dim, self.projector_width)

    def attend(self, dataset: Dataset, report: Report) -> None:
        if self.cache is None:
            return
        for teacher in self.teachers:
            path = self.cache / f"{teacher.fingerprint[:16]}.npy"
            cached = feature_cache.ensure_features(
                dataset.all_pictures(), teacher, path, dataset.fingerprint, CACHED_AT_ONCE, report
            )
            self.cached.append(cached)
        self.teachers = []

    def loss(self, module: nn.Module, batch: Batch) -> Losses:
        projected: list[Tensor] = []

        def listen(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
            output, tokens = module(x, t, y)
            projected.extend(tokens)
            return output  # type: ignore[no-any-return]

        if self.aligned is not None:
            self.aligned.is_idle = not self.aligns(batch.step)
        losses = self.base.losses(listen, batch)
        if not self.aligns(batch.step):
            # Distributed training waits for a gradient of every weight.
            return losses | {"loss": losses["loss"] + 0 * sum(tokens.sum() for tokens in projected)}
        alignment = self.alignment(projected, self.seen(batch))
        named = {"denoising": losses["loss"].detach()} | losses | {"alignment": alignment.detach()}
        return named | {"loss": losses["loss"] + self.weight * alignment}

    def alignment(self, projected: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """The mean distance over teachers, images and tokens; (N, T, D) each, in float32 even under autocast."""
        with torch.autocast(features[0].device.type, enabled=False):
            wanted = [feature.float() for feature in features]
            if self.spatial_norm:
                wanted = [spatially_normalised(feature, self.spatial_norm) for feature in wanted]
            pairs = zip(projected, wanted, strict=True)
            return torch.stack([self.distance(tokens.float(), each, self.temperature) for tokens, each in pairs]).mean()

    def features(self, indices: NDArray[np.int64], step: int) -> list[NDArray[Any]]:
        return [cached.read(indices) for cached in self.cached] if self.aligns(step) else []

    def seen(self, batch: Batch) -> list[Tensor]:
        """The features of each teacher: (N, T, D).

        Raises:
            ConfigError: the batch brings neither pictures nor cached features. DataError: features that are not finite.
        """
        if batch.features:
            return [feature.to(batch.x0.device, non_blocking=True) for feature in batch.features]
        if batch.pictures is None:
            raise ConfigError("teachers need pictures, and this data set has none: encode it again, or give a cache")
        features = [teacher(batch.pictures) for teacher in self.teachers]
        if not self.checked:
            self._check_finite(features)
        return features

    def _check_finite(self, features: Sequence[Tensor]) -> None:
        """Test the features once, at the first step. Later each test would cost a synchronisation with the device."""
        for teacher, feature in zip(self.teachers, features, strict=True):
            if not bool(feature.isfinite().all()):
                raise DataError(f"teacher '{teacher.name}' gives features that are not finite: its weights are damaged")
        self.checked = True


class Aligned(nn.Module):
    """A network that also returns the projections of the tokens after one of its blocks.

    forward(x, t, y) -> (output, [(N, T, D) for each projector]). When `is_idle`, a single image passes the projectors,
    N = 1: no loss needs them, but all processes of a run expect the same modules to be called.
    """

    def __init__(self, network: nn.Module, depth: int, projectors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.projectors = network, nn.ModuleList(projectors)
        self.tokens: list[Tensor] = []
        self.is_idle = False
        blocks = network.blocks
        assert isinstance(blocks, nn.ModuleList)
        blocks[depth - 1].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, inputs: Any, tokens: Tensor) -> None:
        self.tokens = [tokens]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        output = self.network(x, t, y)
        tokens, self.tokens = self.tokens[0][: 1 if self.is_idle else None], []
        return output, [projector(tokens) for projector in self.projectors]


def mlp_projector(hidden_size: int, dim: int, width: int) -> nn.Sequential:
    """REPA's projector, (..., hidden_size) -> (..., dim), with the keys of the published checkpoints."""
    layers = (nn.Linear(hidden_size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim))
    return _initialised(nn.Sequential(*layers))


class ConvProjector(nn.Module):
    """iREPA's projector: one 3x3 convolution over the grid of tokens. (N, T, hidden_size) -> (N, T, dim)."""

    def __init__(self, hidden_size: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(hidden_size, dim, 3, padding=1)

    def forward(self, tokens: Tensor) -> Tensor:
        side = math.isqrt(tokens.shape[1])
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        projected: Tensor = self.conv(grid)
        return projected.flatten(2).transpose(1, 2)


def _initialised(projector: nn.Sequential) -> nn.Sequential:
    for layer in projector:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return projector


def spatially_normalised(features: Tensor, gamma: float) -> Tensor:
    """(z - gamma mean) / (std + 1e-6) over the tokens of each image (iREPA, eq. 2; unbiased). (N, T, D) -> same."""
    mean = features.mean(dim=1, keepdim=True)
    # On processors this takes a ninth of the time of Tensor.std.
    std = (features - mean).square().sum(dim=1, keepdim=True).div(features.shape[1] - 1).sqrt()
    return (features - gamma * mean) / (std + 1e-6)


def negative_cosine(tokens: Tensor, features: Tensor, temperature: float) -> Tensor:
    """-cos of each token with its feature, the mean; in [-1, 1].

    Each token is divided by its length after the product: half of the time of F.cosine_similarity.
    """
    wanted = F.normalize(features, dim=-1, eps=SHORTEST)
    lengths: Tensor = torch.linalg.vector_norm(tokens, dim=-1).clamp_min(SHORTEST)
    return -((tokens * wanted).sum(dim=-1) / lengths).mean()


def nt_xent(tokens: Tensor, features: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each token's feature among those of its image (Chen et al. 2020, eq. 1).

    The logits are cosines over temperature.
    """
    tokens, features = F.normalize(tokens, dim=-1), F.normalize(features, dim=-1)
    logits = tokens @ features.transpose(1, 2) / temperature
    own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return F.cross_entropy(logits.flatten(0, 1), own.flatten())


SIMILARITIES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"cosine": negative_cosine, "nt_xent": nt_xent}
