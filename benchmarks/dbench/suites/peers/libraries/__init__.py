"""The peers: what a user would write with each library itself. One file a library; the file name is its name.

A file holds `peers(ingredients) -> list[Peer]`, which raises UserError where the library has no such network. It uses
the library's public interface as its documentation advises for speed; of ours only the eager network computes a call.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dbench.core.inputs import Inputs
from dbench.suites.peers import plain
from drun.bundle.card import Card
from drun.errors import ConfigError
from dtrain.models import Network

#: x (N, C, H, W) float32, t (N,) float32 and, where there are classes, y (N,) int64 -> (N, C or 2 C, H, W) float32
Predict = Callable[..., NDArray[np.float32]]


@dataclass(frozen=True)
class Peer:
    name: str  # for people, such as `OpenVINO in bf16`
    precision: str  # fp32 | bf16 | int8: it is compared with what has the same
    open: Callable[[Inputs], Predict]  # ready for inputs of these shapes


@dataclass(frozen=True)
class Ingredients:
    """What every library starts from."""

    network: nn.Module  # in float32 and eval mode
    card: Card
    threads: int
    folder: Path  # for files
    states: int  # that int8 is calibrated on

    @property
    def config(self) -> dict[str, Any]:
        """The settings of `dtrain.models.build`, whole."""
        assert isinstance(self.network, Network)
        return self.network.config

    @cached_property
    def onnx(self) -> Path:
        """The network by plain `torch.onnx.export`, with any batch."""
        return plain.export(self.network, plain.inputs(self.card, 2), self.folder / "plain.onnx")


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def chosen(wanted: tuple[str, ...]) -> list[str]:
    """The wanted libraries, or all. Raises ConfigError for an unknown one."""
    if unknown := [name for name in wanted if name not in names()]:
        raise ConfigError(f"--peer got '{unknown[0]}', expected one of {', '.join(names())}")
    return [name for name in names() if name in (wanted or names())]


def peers(name: str, ingredients: Ingredients) -> list[Peer]:
    """The peers of a library. Raises UserError if it has no such network, or is not installed."""
    found: list[Peer] = import_module(f"{__name__}.{name}").peers(ingredients)
    return found
