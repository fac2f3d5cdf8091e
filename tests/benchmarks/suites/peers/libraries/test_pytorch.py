"""PyTorch as a peer: what is compiled computes the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agreement import error_of
from networks import small

from dbench.suites.peers.libraries import Ingredients, pytorch
from drun.bundle.card import Classes, StateSpace
from dtrain import models

NAMES = sorted(name for name, kind in models.available().items() if kind.predicts == "image")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of inductor, about itself


def test_eager_in_both_precisions(sit_ingredients: Ingredients) -> None:
    peers = {peer.name: peer for peer in pytorch.peers(sit_ingredients)}
    assert [*peers] == ["eager PyTorch, fp32", "eager PyTorch, bf16", "torch.compile, fp32", "torch.compile, bf16"]
    assert error_of(peers["eager PyTorch, fp32"], sit_ingredients, 2) == 0
    assert 1e-4 < error_of(peers["eager PyTorch, bf16"], sit_ingredients, 2) < 3e-2


@pytest.mark.parametrize("name", NAMES)
def test_every_network_can_be_cast(name: str, sit_ingredients: Ingredients) -> None:
    network: Any = small(name)
    classes = Classes(10, 10) if network.classes else None
    card = replace(sit_ingredients.card, data=StateSpace.of(network.state_shape(16)), classes=classes)
    ingredients = replace(sit_ingredients, network=network.requires_grad_(False), card=card)
    (bf16,) = (peer for peer in pytorch.peers(ingredients) if peer.name == "eager PyTorch, bf16")
    assert 1e-4 < error_of(bf16, ingredients, 2) < 6e-2


def test_compiled(sit_ingredients: Ingredients) -> None:
    peers = {peer.name: peer for peer in pytorch.peers(sit_ingredients)}
    assert 0 < error_of(peers["torch.compile, fp32"], sit_ingredients, 2) < 1e-5
