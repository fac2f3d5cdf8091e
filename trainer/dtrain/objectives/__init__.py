"""What a network is trained for: one file each, and the file name is the objective's name.

A file holds `Objective(process, device, **options)`, with `loss(network, x0, generator) -> scalar tensor`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from drun.errors import ConfigError
from drun.process import DiscreteProcess


class Objective(Protocol):
    prediction: str

    def loss(self, network: nn.Module, x0: Tensor, generator: torch.Generator) -> Tensor: ...


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build(options: Mapping[str, Any], process: DiscreteProcess, device: torch.device) -> Objective:
    """The objective `options["name"]` with the other options.

    Raises:
        ConfigError: unknown objective or option, or a wrong value.
    """
    keywords = dict(options)
    name = keywords.pop("name", None)
    if name not in names():
        raise ConfigError(f"unknown objective '{name}': choose one of {', '.join(names())}")
    try:
        objective: Objective = import_module(f"{__name__}.{name}").Objective(process, device, **keywords)
    except TypeError as error:
        raise ConfigError(f"objective '{name}' has a wrong option: {error}") from error
    return objective
