"""A network in two parts computes what it computed as one, and the parts share its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dexport.deploy import deployable
from dexport.deploy.split import Columns, split
from drun.errors import ConfigError
from dtrain import models
from dtrain.models import Network, Projection

NETWORKS = [
    *((name, {}) for name, model in sorted(models.available().items()) if getattr(model, "predicts", "") == "image"),
    ("SiT", {"qk_norm": True}),
    ("SiT", {"num_classes": 0}),
]


def inputs_of(network: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    side = getattr(network, "input_size", 16)
    x, t = torch.randn(3, network.config["channels"], side, side), torch.tensor([0.0, 5.0, 900.0])
    return x, [t] if network.classes is None else [t, torch.tensor([0, 3, network.null_label])]


@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_both_parts_are_the_network(build_small: Any, name: str, changes: dict[str, Any]) -> None:
    network = deployable(build_small(name, **changes))
    x, conditions = inputs_of(network)
    expected = network(x, *conditions)
    wanted = [module(network.condition(*conditions)) for module in network.modules() if isinstance(module, Projection)]
    first, second, width = split(network)
    c = first(*conditions)
    assert c.shape == (3, width)
    assert torch.equal(c, torch.cat(wanted, dim=1))
    assert c.std(dim=0).min() > 0  # every column tells the three rows apart
    assert torch.equal(second(x, c), expected)
    assert expected.abs().mean() > 0.01
    assert not torch.equal(second(x, c.roll(1, dims=0)), expected)
    assert not any(isinstance(module, Projection) for module in second.modules())


def test_the_columns_of_a_projection() -> None:
    c = torch.arange(10.0).reshape(2, 5)
    assert torch.equal(Columns(1, 3)(c), torch.tensor([[1.0, 2.0], [6.0, 7.0]]))


def test_the_parts_share_the_weights(build_small: Any) -> None:
    network = build_small("SiT")
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    first, second, _ = split(network)
    assert {parameter.data_ptr() for part in (first, second) for parameter in part.parameters()} == weights


def test_a_network_without_projections_is_refused() -> None:
    class Plain(Network):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(1, 1, 3)

    with pytest.raises(ConfigError, match="--split got a Plain, which computes nothing outside its loop"):
        split(Plain())
