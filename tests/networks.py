"""Small networks of every family, with weights that are nowhere zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dtrain import models

#: family -> the smallest keywords that build its models
SMALLEST: dict[str, dict[str, Any]] = {
    "unet": {"dim": 8, "dim_mults": [1, 2], "channels": 3},
    "transformer": {
        "input_size": 8, "size": {"hidden_size": 32, "depth": 2, "num_heads": 2}, "channels": 4, "num_classes": 10,
    },
}  # fmt: skip


def family_of(name: str) -> str | None:
    """By the keywords that the model takes: nothing is built. None: it is of no family above."""
    taken = models.parameters(name).keys()
    return next((family for family, keywords in SMALLEST.items() if keywords.keys() <= taken), None)


def smallest(name: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a small model."""
    family = family_of(name)
    assert family, f"no keywords in tests/networks.py build a {name}: add a family"
    return {"name": name} | SMALLEST[family] | changes


def small(name: str, **changes: Any) -> nn.Module:
    """A small model in eval mode, always the same."""
    torch.manual_seed(0)
    return perturb(models.build(smallest(name, **changes))).eval()


@torch.no_grad()
def perturb(network: nn.Module) -> nn.Module:
    """No weight stays zero: the last layers of many fresh networks are, and nothing would reach their outputs."""
    for parameter in network.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return network
