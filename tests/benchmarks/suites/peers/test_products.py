"""The model's largest products, and what multiplies them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from dbench.suites.peers.products import Product, bursts, largest


def test_the_largest_products_of_linear_maps_and_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 4, 1))
    found = largest(network, torch.zeros(2, 3, 5, 5))
    assert found == [Product(2 * 25, 3 * 9, 8), Product(2 * 25, 8, 4)]  # without the grouped one
    assert found[0].flops == 2 * 50 * 27 * 8
    linear = nn.Linear(6, 7)
    assert largest(linear, torch.zeros(3, 4, 6)) == [Product(12, 6, 7)]
    assert not linear._forward_hooks


def test_a_burst_is_long_unless_its_products_are_tiny() -> None:
    assert Product(1024, 1024, 1024).times == 2
    assert Product(4, 4, 4).times == 50
    assert str(Product(2, 3, 4)) == "2x3 by 3x4"


def test_every_library_multiplies() -> None:
    product = Product(8, 16, 4)
    kernels = bursts(product, threads=1)
    fp32 = {library for library, precision in kernels if precision == "fp32"}
    assert fp32 == {"PyTorch", "ONNX Runtime", "OpenVINO"}
    assert ("PyTorch", "bf16") in kernels
    rng = np.random.default_rng(0)  # the matrices that `bursts` draws
    expected = rng.standard_normal((8, 16), dtype=np.float32) @ rng.standard_normal((16, 4), dtype=np.float32)
    for (library, precision), burst in kernels.items():
        found: Any = burst()
        error = np.asarray(found.float() if isinstance(found, torch.Tensor) else found) - expected
        allowed = {"fp32": 1e-6, "bf16": 2e-2}[precision]
        assert np.linalg.norm(error) < allowed * np.linalg.norm(expected), library
