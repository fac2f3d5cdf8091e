"""Random weights through which everything reaches the output; `suites/peers` tests the checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dbench.core.random_weights import fill_zeros
from dtrain import models


def test_matrices_keep_the_size_of_what_they_are_applied_to() -> None:
    network = models.build({"name": "SiT", "input_size": 8, "size": {"hidden_size": 256, "depth": 1, "num_heads": 2}})
    fill_zeros(network)
    weight: Any = network.blocks[0].adaLN_modulation[1].weight.detach()  # type: ignore[index]
    assert float((weight @ torch.randn(256)).std()) == pytest.approx(1, rel=0.2)
