"""The model registry: every file or folder here with a `MODELS` table of `Network`s, imported when a model is built.

The network itself says what it is called with, draws and predicts: no code elsewhere tells one family from another. A
keyword that is called `input_size` or `image_size` is the side of the input, which a recipe may leave out:
it follows from the images or, if `channels` is neither 1 nor 3, from their latents.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from drun.bundle.card import Classes, Shape
from drun.errors import ConfigError, door


class Network(nn.Module):
    """The base of all models of this folder: a module that describes itself.

    A denoiser is called as network(x, t), and as network(x, t, y) where it has `classes`: x (N, C, H, W) float, t (N,)
    or (1,) model times, y (N,) int64 labels -> (N, C, H, W), or (N, 2 C, H, W) with a learned `variance`. A classifier
    is an `Encoder`.
    """

    #: image: it denoises; class: it tells the classes of images apart.
    predicts: ClassVar[str] = "image"
    #: The settings from which `build` makes the network again.
    config: dict[str, Any]
    #: The labels that it knows, and the label for "no class"; None: there are no labels.
    classes: Classes | None = None
    #: See `drun.diffusion.prediction.LEARNED_RANGE`; None: it predicts no variance.
    variance: str | None = None

    def state_shape(self, side: int) -> Shape:
        """(C, H, W) of one x whose sides are to be `side`; a network that takes one size only says this size.

        Raises ConfigError for a side that the network does not take.
        """
        raise NotImplementedError

    def condition(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        """All that the network computes of time and label before its `Projection`s: (N or 1, width).

        t: (N,) or (1,). y: (N,) int64 where there are `classes`. A network without projections has no such part.
        """
        raise NotImplementedError

    def denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        """The rest of a denoiser: the output for x, whose projections take the `condition`."""
        raise NotImplementedError


class Encoder(Network):
    """A network whose tokens say what is in an image: a teacher, or the judge of a distance.

    It is called as network(x) -> (N, classes) logits, if it has classes.
    """

    predicts: ClassVar[str] = "class"
    image_size: int  # side of the images, pixels
    channels: int  # of the images
    num_tokens: int  # a square number; they go along the rows
    hidden_size: int  # of a token

    def tokens(self, x: Tensor) -> Tensor:
        """x: (N, channels, image_size, image_size) float in [-1, 1] -> (N, num_tokens, hidden_size).

        Raises ConfigError for another shape.
        """
        raise NotImplementedError

    def state_shape(self, side: int) -> Shape:
        return self.channels, self.image_size, self.image_size


class Projection(nn.Sequential):
    """What one block of a denoiser takes of the condition: (N or 1, width) -> (N or 1, columns).

    It does not depend on x, so that an export may compute the projections of all blocks outside the sampling loop.
    """


def available() -> dict[str, type[Network]]:
    """Model classes by name, from the `MODELS` table of every file or folder here."""
    files = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return {name: model for file in files for name, model in getattr(file, "MODELS", {}).items()}


def build(config: Mapping[str, Any]) -> Network:
    """A freshly initialised model from its configuration.

    config: `name` (a key of `available()`) and the constructor's keywords, as in
        {"name": "TwoResUNet", "dim": 64, "dim_mults": [1, 2, 4, 8], "channels": 3}.
        Every model keeps such a mapping as its `config`.

    Raises ConfigError for an unknown name, for keywords that are unknown, missing or wrong, and for too little memory.
    """
    keywords = dict(config)
    name = keywords.pop("name", None)
    _check_keywords(str(name), keywords, inspect.Signature(list(parameters(name).values())))
    with door(f"model {name} cannot be built", ConfigError, "change its settings"):
        return available()[str(name)](**keywords)


def outline(config: Mapping[str, Any]) -> Network:
    """Build a network without memory for its weights. It computes shapes and describes itself."""
    with torch.device("meta"):
        return build(config)


def parameters(name: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of the model `name`, by keyword. Raises ConfigError for an unknown name."""
    models = available()
    if not isinstance(name, str) or name not in models:
        raise ConfigError(f"unknown model {name!r:.80}: choose one of {', '.join(sorted(models))}")
    return inspect.signature(models[name]).parameters


def _check_keywords(name: str, keywords: dict[str, Any], signature: inspect.Signature) -> None:
    try:
        signature.bind(**keywords)
    except TypeError as error:
        expected, unknown = ", ".join(signature.parameters), sorted(keywords.keys() - signature.parameters.keys())
        what = f"unknown setting 'model.{unknown[0]}'" if unknown else str(error)
        raise ConfigError(f"model {name} cannot be built: {what}; its settings are {expected}") from None
