"""Training objectives: one file each, and the file name is the objective's name.

A file holds a class `Objective(process, device, **options)` that fulfils the protocol of `Objective` below; most
take what they do not change from `Plain`.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drun.console import Report
from drun.diffusion.process import Process
from drun.errors import ConfigError
from dtrain.config import lacking
from dtrain.data.dataset import Dataset
from dtrain.draws import Draws


@dataclass(frozen=True)
class Batch:
    """The images of one process in one step."""

    x0: Tensor  # (N, C, H, W) float32, the clean images or latents
    labels: Tensor | None  # (N,) int64, some replaced by the null label
    draws: Draws
    step: int
    pictures: Tensor | None = None  # (N, H, W, C) uint8, for teachers
    features: tuple[Tensor, ...] = ()  # the cached features of each teacher: (N, T, D)


#: Losses by name, scalars: "loss" is what is minimised, the others are logged.
Losses = dict[str, Tensor]
#: (x, t, labels or None) -> (N, C or 2 C, H, W)
Predict = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Objective(Protocol):
    prediction: str | None  # see drun.diffusion.prediction; None: this objective trains no denoiser

    def wrap(self, network: nn.Module) -> nn.Module:
        """The module that is trained: the network with the objective's additions, whose keys do not collide."""

    def attend(self, dataset: Dataset, report: Report) -> None:
        """Look at the data before the first step, to fill caches and to refuse data that does not fit."""

    def needs_pictures(self, step: int) -> bool:
        """Whether teachers look at the batch of this step."""

    def features(self, indices: NDArray[np.int64], step: int) -> list[NDArray[Any]]:
        """The cached features of these images, if this step needs them. They are read beside the training."""

    def loss(self, module: nn.Module, batch: Batch) -> Losses:
        """The losses of a batch. module: the result of `wrap`, perhaps compiled and distributed."""


class Plain:
    """An objective that trains the network alone."""

    def wrap(self, network: nn.Module) -> nn.Module:
        return network

    def attend(self, dataset: Dataset, report: Report) -> None:
        pass

    def needs_pictures(self, step: int) -> bool:
        return False

    def features(self, indices: NDArray[np.int64], step: int) -> list[NDArray[Any]]:
        return []


class Denoising(Plain):
    """An objective that takes a function to call the network with, so that another objective can observe the calls."""

    def loss(self, module: nn.Module, batch: Batch) -> Losses:
        return self.losses(lambda x, t, y: module(x, t) if y is None else module(x, t, y), batch)

    def losses(self, predict: Predict, batch: Batch) -> Losses:
        raise NotImplementedError


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: Any) -> type[Any]:
    """The class of objective `name`.

    Raises:
        ConfigError: there is none.
    """
    if name not in names():
        raise ConfigError(f"unknown objective '{name}': choose one of {', '.join(names())}")
    objective: type[Any] = import_module(f"{__name__}.{name}").Objective
    return objective


def build(options: Mapping[str, Any], process: Process, device: torch.device) -> Objective:
    """The objective `options["name"]` with the other options.

    Raises:
        ConfigError: unknown objective or option, or a wrong value.
    """
    keywords = dict(options)
    kind = load(keywords.pop("name", None))
    _check_keywords(options, keywords)
    try:
        objective: Objective = kind(process, device, **keywords)
    except TypeError as error:
        raise ConfigError(f"objective '{options['name']}' has a wrong option: {error}") from error
    return objective


#: The parameters of objectives that are not settings.
TOLD = ("process", "device")


def parameters(name: Any) -> dict[str, inspect.Parameter]:
    """The options of an objective. Raises ConfigError for an unknown name."""
    own = inspect.signature(load(name)).parameters
    return {key: parameter for key, parameter in own.items() if key not in TOLD}


def _check_keywords(options: Mapping[str, Any], keywords: Mapping[str, Any]) -> None:
    name, own = options["name"], parameters(options["name"])
    if unknown := sorted(keywords.keys() - own.keys()):
        raise ConfigError(f"objective '{name}' has no option '{unknown[0]}', expected one of {', '.join(own)}")
    for key, parameter in own.items():
        if parameter.default is parameter.empty and key not in keywords:
            raise lacking(f"objective '{name}'", "objective", key, {"objective": options})


def prediction(options: Mapping[str, Any]) -> str:
    """The prediction of a network that is trained for the objective `options`.

    Raises:
        ConfigError: unknown objective, or one that trains no denoiser.
    """
    if isinstance(base := options.get("base"), Mapping):
        return prediction(base)
    parameters = inspect.signature(load(options.get("name"))).parameters
    if "prediction" not in parameters:
        raise ConfigError(f"objective '{options.get('name')}' trains no denoiser")
    return str(options.get("prediction", parameters["prediction"].default))
