"""The state of a training run in progress."""

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
    """Everything that a step needs, and everything that training changes."""

    recipe: Recipe
    workers: Workers
    objective: Objective
    dataset: Dataset
    network: Network
    module: nn.Module  # the network with what the objective adds, as the workers run it
    optimizer: Any
    ema: Average
    step: int = 0
    pending: list[Losses] = field(default_factory=list)  # losses since the last record, still on the device
    gradient_norm: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def null_label(self) -> int:
        """The label that replaces dropped labels. `start` checks that the network has one."""
        classes = self.network.classes
        assert classes is not None
        assert classes.null_label is not None
        return classes.null_label


def trained_beside(wrapped: nn.Module, network: nn.Module) -> nn.ModuleDict:
    """The weights that the objective trains beside the network, such as projectors."""
    children = {} if wrapped is network else dict(wrapped.named_children())
    return nn.ModuleDict({name: child for name, child in children.items() if child is not network})
