"""Teachers of representation alignment (REPA, Yu et al. 2024, arXiv:2410.06940): frozen encoders of clean images."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drun.errors import CheckpointError, ConfigError, DataError, door
from dtrain import models
from dtrain.checkpoints import layouts
from dtrain.checkpoints import ours as checkpoint
from dtrain.models import Encoder, Network
from dtrain.teachers.families import TEACHERS, Family
from dtrain.teachers.weights import load_network, resample_positions

__all__ = ["TEACHERS", "Teacher", "check_tokens", "load", "resample_positions"]

_RECIPE = 1  # part of a fingerprint: raise it when the same weights and images give other features


class Teacher:
    """A frozen encoder of images. It is not an nn.Module, so that a network that holds one does not save its weights.

    Attributes:
        name: as in TEACHERS, or the name of the recipe that trained it.
        image_size: side of the images it takes, pixels. channels: as many, or 1, which is repeated.
        num_tokens, dim: shape of the features of an image. Tokens go along the rows of patches.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        encode: Callable[[Tensor], Tensor],
        image_size: int,
        channels: int,
        shape: tuple[int, int],
        architecture: Any,
        device: torch.device,
    ) -> None:
        """encode: float32 (N, C, H, W) in [0, 255] -> (N, *shape). architecture: facts that the weights do not tell."""
        self.name, self.image_size, self.channels = name, image_size, channels
        self.num_tokens, self.dim = shape
        self.device, self.network = device, network.to(device).eval().requires_grad_(False)
        self._encode, self._architecture = encode, architecture

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images: uint8 (N, H, W, C) on any device -> float32 (N, num_tokens, dim) on the teacher's.

        Within autocast the network computes in its precision, as REPA's do.

        Raises:
            DataError: images of another size, type or number of channels.
        """
        side = self.image_size
        fits = images.ndim == 4 and images.shape[1:3] == (side, side) and images.shape[3] in (1, self.channels)
        if images.dtype != torch.uint8 or not fits:
            expected = f"uint8 (N, {side}, {side}, {self.channels})"
            got = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise DataError(f"teacher '{self.name}' got images of {got}, expected {expected}")
        pixels = images.to(self.device).permute(0, 3, 1, 2).float()
        return self._encode(pixels.expand(-1, self.channels, -1, -1)).float()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of everything that the features of an image depend on."""
        described = json.dumps([_RECIPE, self.name, self.image_size, self._architecture], sort_keys=True)
        digest = hashlib.sha256(described.encode())
        for key, tensor in self.network.state_dict().items():
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def load(spec: str, image_size: int, device: torch.device) -> Teacher:
    """A teacher of images of side `image_size` in pixels.

    Args:
        spec: a name in TEACHERS, whose weights come from the Hugging Face hub; `name=LOCATION` for weights from a
            folder in the layout of save_pretrained, another hub id, or (DINO, MAE, MoCo-v3) an official checkpoint
            file; or a checkpoint of an encoder of our own, or a folder with some, of which the newest is taken. Such a
            hub id must have been fetched before: it may come from anybody's recipe.

    Raises:
        ConfigError: an unknown teacher, an image size it cannot take, or transformers is not installed.
        CheckpointError: weights that are missing, damaged, of another class, or do not fit.
    """
    name, _, location = spec.partition("=")
    if name in TEACHERS:
        if name != spec and not location:
            raise ConfigError(f"the teacher got '{spec}', expected {name} or {name}=LOCATION")
        return _published(name, location, image_size, device)
    if Path(spec).exists():
        return _own(_newest(Path(spec)), image_size, device)
    if "/" in spec:
        raise ConfigError(
            f"no teacher at '{spec}': train one, as by 'dtrain run digits-teacher', or name a published one"
        )
    known = ", ".join(TEACHERS)
    raise ConfigError(f"unknown teacher '{spec}': choose from {known}, or give a checkpoint of dtrain's own encoders")


def unfinished_note(spec: str) -> str | None:
    """A warning if a teacher of our own was not trained to its end; None otherwise. spec: as for `load`."""
    if spec.partition("=")[0] in TEACHERS:
        return None
    path = _newest(Path(spec))
    saved = checkpoint.read(path)
    steps = saved.recipe.train.steps
    if saved.step >= steps:
        return None
    return f"the teacher in '{path}' was trained for {saved.step:,} of {steps:,} steps: train it to its end first"


def check_tokens(teacher: Teacher, num_tokens: int) -> None:
    """Raises ConfigError if the teacher has another number of tokens than the network that is to learn from it."""
    if teacher.num_tokens != num_tokens:
        got = f"teacher '{teacher.name}' gives {teacher.num_tokens} tokens for {teacher.image_size} pixels"
        raise ConfigError(f"{got}, the network has {num_tokens}: choose a patch size or teacher with as many")


def _published(name: str, location: str, image_size: int, device: torch.device) -> Teacher:
    variant = TEACHERS[name]
    family = variant.family
    network = load_network(name, variant, location, image_size)
    size, config = family.input_size(image_size, name), network.config
    num_tokens = (size // family.patch_size) ** 2
    heads, activation = config.num_attention_heads, config.hidden_act
    return Teacher(
        name,
        network,
        partial(_patch_tokens, network, family, size, num_tokens),
        image_size,
        3,
        (num_tokens, config.hidden_size),
        [heads, activation],
        device,
    )


def _patch_tokens(network: nn.Module, family: Family, size: int, num_tokens: int, pixels: Tensor) -> Tensor:
    tokens: Tensor = network(prepare(pixels, family, size)).last_hidden_state
    return tokens[:, -num_tokens:]  # a class token and registers come first


def prepare(pixels: Tensor, family: Family, size: int) -> Tensor:
    """The input of a published teacher: float32 (N, 3, H, W) in [0, 255] -> normalised (N, 3, size, size).

    The resizing is bicubic without antialiasing, and CLIP's alone comes before the normalisation, as in REPA.
    """
    mean, std = (_by_channel(values, pixels.device) for values in family.normalisation)
    x = pixels / 255
    if family.resize == "before":
        x = F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False)
    x = (x - mean) / std
    if family.resize == "after":
        x = F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False)
    return x


@lru_cache
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(1, 3, 1, 1), moved to the device once, and not in every step."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


# ---- our own ------------------------------------------------------------------------------------------------


def _newest(path: Path) -> Path:
    if path.is_file():
        return path
    found = [file for file in path.glob("*.pt") if re.fullmatch(r".+-\d+", file.stem)]
    if not found:
        advice = "train one, as by dtrain run digits-teacher, or give a published teacher as name=FOLDER"
        raise CheckpointError(f"no checkpoint of dtrain in '{path}': {advice}")
    return max(found, key=lambda file: (int(file.stem.rpartition("-")[2]), file.name))


def _own(path: Path, image_size: int, device: torch.device) -> Teacher:
    with door(f"cannot take '{path}' as a teacher", CheckpointError):
        saved = checkpoint.read(path)
        kind = saved.recipe.model.get("name", "")
        if not issubclass(models.available().get(kind, Network), Encoder):
            raise CheckpointError(f"'{path}' holds a {kind}, expected a ViT or another encoder as the teacher")
        network = layouts.network_of(saved.recipe.model, saved.ema, f"'{path}'")
    assert isinstance(network, Encoder)
    if network.image_size != image_size:
        got = f"the teacher in '{path}' takes images of {network.image_size} pixels"
        raise ConfigError(f"{got}, the data has {image_size}: choose another teacher")
    return Teacher(
        saved.recipe.name,
        network,
        lambda pixels: network.tokens(pixels / 127.5 - 1),
        image_size,
        network.channels,
        (network.num_tokens, network.hidden_size),
        network.config,
        device,
    )
