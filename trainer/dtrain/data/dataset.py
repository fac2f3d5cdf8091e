"""A data set of pixels or latents, with one interface for the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.errors import DataError
from dtrain.data import pixels
from dtrain.data.batches import augment
from dtrain.data.latents import Latents, sample_moments
from dtrain.draws import Draws
from dtrain.models.vae import to_model_range

Indices = NDArray[np.int64]
NO_PICTURES = "these latents come without images, which teachers need: encode the images again"


@dataclass(frozen=True)
class Arrays:
    """The arrays that were read for some images, on the CPU."""

    states: Tensor  # uint8 pixels (N, H, W, C), or float32 moments (N, 2 C, h, w)
    pictures: Tensor | None  # uint8 (N, H, W, C)
    features: tuple[Tensor, ...] = ()  # the cached features of each teacher: float16 (N, T, D)

    def pinned(self) -> Arrays:
        """The same arrays in pinned memory, from which a GPU can copy while it computes."""
        pictures = None if self.pictures is None else self.pictures.pin_memory()
        return Arrays(self.states.pin_memory(), pictures, tuple(each.pin_memory() for each in self.features))


@dataclass(frozen=True)
class Dataset(ABC):
    """N images, with or without labels."""

    labels: Indices | None
    #: vae, scale and bias of latents; empty for pixels
    latent: dict[str, Any] = field(default_factory=dict, kw_only=True)
    #: names of the labels 0, 1, ...; empty if the data has no names
    class_names: tuple[str, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input of the network."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes when the pictures change."""

    @abstractmethod
    def read(self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()) -> Arrays:
        """Read some images from disk or memory. This may run beside the training.

        Args:
            pictures: whether teachers need the pictures.
            draws, modes: they decide which version of each image is read, where the disk holds several.
        """

    @abstractmethod
    def states(self, arrays: Arrays, draws: Draws, modes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """x0 (N, C, H, W) float32 on the device of the draws, and the pictures (N, H, W, C) uint8 if they were read.

        modes: the augmentations, which are applied here unless `read` has done so.
        """

    @abstractmethod
    def all_pictures(self) -> Any:
        """All pictures as uint8 (N, H, W, C), to be read slice by slice."""


@dataclass(frozen=True)
class PixelImages(Dataset):
    images: NDArray[np.uint8]  # (N, H, W, C)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        return pixels.fingerprint(self.images)

    def read(self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()) -> Arrays:
        chosen = torch.from_numpy(self.images[indices])
        return Arrays(chosen, chosen if pictures else None)

    def states(self, arrays: Arrays, draws: Draws, modes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        chosen = arrays.states.to(draws.device, non_blocking=True)
        if modes:
            turned = augment(chosen.permute(0, 3, 1, 2), modes, draws.toss)
            chosen = turned.permute(0, 2, 3, 1)
        return to_model_range(chosen), chosen if arrays.pictures is not None else None

    def all_pictures(self) -> NDArray[np.uint8]:
        return self.images


@dataclass(frozen=True)
class LatentImages(Dataset):
    source: Latents

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def read(self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()) -> Arrays:
        mirrored = draws.toss().numpy() if draws is not None and "hflip" in modes else np.zeros(len(indices), np.bool_)
        moments = torch.from_numpy(self.source.moments(indices, mirrored))
        if not pictures:
            return Arrays(moments, None)
        shown = self._pictures(indices)
        shown[mirrored] = shown[mirrored, :, ::-1]
        return Arrays(moments, torch.from_numpy(shown))

    def states(self, arrays: Arrays, draws: Draws, modes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        moments = arrays.states.to(draws.device, non_blocking=True)
        scale, bias = _constants(self.source.scale, draws.device), _constants(self.source.bias, draws.device)
        x0 = sample_moments(moments, draws.latent_normal(*self.shape), scale, bias)
        return x0, None if arrays.pictures is None else arrays.pictures.to(draws.device, non_blocking=True)

    def all_pictures(self) -> Any:
        return _Lazy(self)

    def _pictures(self, indices: Indices) -> NDArray[np.uint8]:
        if self.source.images is None:
            raise DataError(NO_PICTURES)
        return self.source.images(indices)


@lru_cache
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Constants that are moved to the device once, and not in every step."""
    return torch.tensor(values, device=device)


class _Lazy:
    """The pictures of latents as an array that is read slice by slice."""

    def __init__(self, dataset: LatentImages) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        return self.dataset._pictures(np.arange(*part.indices(len(self))))
