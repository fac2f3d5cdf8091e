"""What a run is trained on, whether pixels or latents: the same questions, asked by the training loop."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drun.console import Report
from drun.errors import ConfigError, DataError
from dtrain.config import Data, Recipe
from dtrain.data import latents
from dtrain.data.batches import augment
from dtrain.data.digits import digit_labels
from dtrain.data.latents import Latents, open_latents, sample_moments
from dtrain.data.pixels import load_images
from dtrain.data.sources import find_labels, open_source
from dtrain.draws import Draws
from dtrain.models.vae import to_model_range

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Arrays:
    """What is read of some images, still on the CPU."""

    states: Tensor                       # uint8 pixels (N, H, W, C), or float32 moments (N, 2 C, h, w)
    pictures: Tensor | None              # uint8 (N, H, W, C)
    features: tuple[Tensor, ...] = ()    # what each teacher saw in them once: float16 (N, T, D)

    def pinned(self) -> Arrays:
        """In memory that a GPU copies from while it computes."""
        pictures = None if self.pictures is None else self.pictures.pin_memory()
        return Arrays(self.states.pin_memory(), pictures, tuple(each.pin_memory() for each in self.features))


@dataclass(frozen=True)
class Dataset(ABC):
    """N images with labels or without."""

    labels: Indices | None
    #: vae, scale and bias of latents; empty for pixels
    latent: dict[str, Any] = field(default_factory=dict, kw_only=True)
    #: of the labels 0, 1, ...; empty where the data does not name them
    class_names: tuple[str, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network sees."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the pictures do."""

    @abstractmethod
    def read(
        self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()
    ) -> Arrays:
        """From disk or memory; may run beside the training.

        Args:
            pictures: for teachers.
            draws, modes: of which version of each image is read, where the disk holds several.
        """

    @abstractmethod
    def states(self, arrays: Arrays, draws: Draws, modes: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """x0 (N, C, H, W) float32 on the device of the draws, and the pictures (N, H, W, C) uint8 if they were read.

        modes: what is done to the images here, where `read` could not.
        """

    @abstractmethod
    def all_pictures(self) -> Any:
        """uint8 (N, H, W, C), to be sliced."""


@dataclass(frozen=True)
class Pixels(Dataset):
    images: NDArray[np.uint8]  # (N, H, W, C)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.images.shape).encode())
        for start in range(0, len(self.images), 4096):
            digest.update(self.images[start : start + 4096].tobytes())
        return digest.hexdigest()

    def read(
        self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()
    ) -> Arrays:
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

    def read(
        self, indices: Indices, pictures: bool, draws: Draws | None = None, modes: Sequence[str] = ()
    ) -> Arrays:
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
            raise DataError("these latents come without images, which teachers need: encode the images again")
        return self.source.images(indices)


@lru_cache
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """On the device once, not in every step."""
    return torch.tensor(values, device=device)


class _Lazy:
    """The pictures of latents as an array that is read slice by slice."""

    def __init__(self, dataset: LatentImages) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        return self.dataset._pictures(np.arange(*part.indices(len(self))))


def open_dataset(recipe: Recipe, cache: Path, report: Report) -> Dataset:
    """The images of a recipe: latents if the folder holds some, else pixels, decoded once into `cache`.

    Raises:
        ConfigError: images that do not fit the model, or labels that it has no rows for. DataError: broken data.
    """
    source, num_classes = recipe.data.source, int(recipe.model.get("num_classes", 0))
    if _holds_latents(Path(source)):
        opened = open_latents(Path(source))
        labels = opened.labels if num_classes else None
        _check_labels(labels, source, num_classes)
        latent = {"vae": opened.vae, "scale": list(opened.scale), "bias": list(opened.bias)}
        names = opened.class_names if num_classes else ()
        dataset: Dataset = LatentImages(labels, opened, latent=latent, class_names=names)
    else:
        dataset = _open_pixels(recipe, source, num_classes, cache, report)
    _check_shape(dataset, recipe)
    return dataset


def described(data: Data, dataset: Dataset) -> Data:
    """The recipe's section with what only the images know."""
    return replace(
        data, latent=dataset.latent, class_names=dataset.class_names, num_images=len(dataset),
        fingerprint=dataset.fingerprint,
    )  # fmt: skip


def _open_pixels(recipe: Recipe, source: str, num_classes: int, cache: Path, report: Report) -> Pixels:
    channels = int(recipe.model.get("channels", 3))
    if channels not in (1, 3):
        raise ConfigError(
            f"'{source}' holds no latents, which a model of {channels} channels draws: make some with dtrain encode"
        )
    labels, names = _pixel_labels(source) if num_classes else (None, ())  # before hours of decoding
    _check_labels(labels, source, num_classes)
    images = load_images(source, recipe.data.image_size, channels, cache, report)
    if labels is not None and len(labels) != len(images):
        raise DataError(f"'{source}' has {len(labels)} labels for {len(images)} images: labels need one image a file")
    return Pixels(labels, images, class_names=names)


def _holds_latents(folder: Path) -> bool:
    names = (latents.INDEX, "vae-sd")
    return any((folder / name).exists() for name in names) or any(folder.glob(f"{latents.MOMENTS}-*.npy"))


def _pixel_labels(source: str) -> tuple[Indices | None, tuple[str, ...]]:
    """The label of each image, and the names of the classes."""
    if source == "digits":
        return digit_labels(), ()
    if Path(source).suffix == ".npy":
        return None, ()
    found, names = find_labels(open_source(Path(source)))
    return None if found is None else np.array(found, np.int64), tuple(names or ())


def _check_labels(labels: Indices | None, source: str, num_classes: int) -> None:
    if not num_classes:
        return
    if labels is None:
        raise ConfigError(
            f"'{source}' has no labels, the model has {num_classes} classes: sort the images into a folder for each "
            "class, add a dataset.json, or set model.num_classes=0"
        )
    highest = int(labels.max())
    if highest >= num_classes:
        raise ConfigError(
            f"'{source}' has labels up to {highest}, the model has {num_classes} classes: set model.num_classes="
            f"{highest + 1}"
        )


def _check_shape(dataset: Dataset, recipe: Recipe) -> None:
    augmented = ", ".join(recipe.data.augment)
    if isinstance(dataset, LatentImages):
        _check_mirrored(dataset.source, recipe)
    if augmented and recipe.objective.get("cache"):
        raise ConfigError(f"data.augment got {augmented}, cached features are of the pictures as they are: choose one")
    source, side = recipe.data.source, recipe.model.get("input_size", recipe.model.get("image_size"))
    channels = recipe.model.get("channels", 3)
    if side is not None and dataset.shape != (channels, side, side):
        raise ConfigError(
            f"'{source}' holds states of shape {dataset.shape}, the model takes {(channels, side, side)}: "
            "set model.channels and model.input_size"
        )


def _check_mirrored(source: Latents, recipe: Recipe) -> None:
    """Latents come in the versions that were encoded, and cannot be turned."""
    modes = recipe.data.augment
    if others := [mode for mode in modes if mode != "hflip"]:
        raise ConfigError(
            f"data.augment got {', '.join(others)}, but latents cannot be turned, expected hflip or nothing: "
            "set data.augment=['hflip'] with latents of dtrain encode --flip, or data.augment=[]"
        )
    if modes and source.flipped is None:
        raise ConfigError(
            f"data.augment got hflip, but '{recipe.data.source}' holds no latents of mirrored images: make them by "
            "dtrain encode --flip, or train without, by --set data.augment=[]"
        )
