"""A training run in progress: all that a step needs, and all that changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dtrain.config import Recipe
from dtrain.data.dataset import Dataset
from dtrain.models import Network
from dtrain.objectives import Losses, Objective
from dtrain.train.ema import Average
from dtrain.train.workers import Workers


@dataclass
class Run:
    """All that a step needs, and all that changes while training."""

    recipe: Recipe
    workers: Workers
    objective: Objective
    dataset: Dataset
    network: Network
    module: nn.Module  # the network with what the objective adds, as the workers run it
    optimizer: Any
    ema: Average
    step: int = 0
    pending: list[Losses] = field(default_factory=list)  # since the last look, still on the device
    gradient_norm: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def null_label(self) -> int:
        """What dropped labels become; only of a network that has one, which `start` checks."""
        classes = self.network.classes
        assert classes is not None
        assert classes.null_label is not None
        return classes.null_label


def trained_beside(wrapped: nn.Module, network: nn.Module) -> nn.ModuleDict:
    """What the objective trains beside the network, such as projectors."""
    children = {} if wrapped is network else dict(wrapped.named_children())
    return nn.ModuleDict({name: child for name, child in children.items() if child is not network})
