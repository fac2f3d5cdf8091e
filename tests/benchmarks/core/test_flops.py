"""Operations by formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dbench.core.flops import counting, forward_flops


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q = self.linear(x)
        return F.scaled_dot_product_attention(q, q, q)


def test_attention_counts_as_its_two_products() -> None:
    """5 tokens of width 8: a linear map, then tokens by tokens, then back."""
    assert forward_flops(Attending(), torch.randn(1, 1, 5, 8)) == 2 * 5 * 8 * 8 + 2 * (2 * 5 * 8 * 5)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_grouped_convolution_joins_the_channels_of_a_group(kind: Any, groups: int) -> None:
    """Each input (transposed) or output pixel: 9 places, 4 / groups channels in, 8 out."""
    x, layer = torch.zeros(3, 4, 6, 6, requires_grad=True), kind(4, 8, 3, padding=1, groups=groups)
    with counting() as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 3 * 36 * 9 * 4 * 8 // groups)
