"""The modules that cast."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Island(nn.Module):
    """A module in float32. Its result is of the dtype `out`."""

    def __init__(self, module: nn.Module, out: torch.dtype) -> None:
        super().__init__()
        self.module, self.out = module, out

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.module(*(x.to(torch.float32) if x.is_floating_point() else x for x in inputs))
        return result.to(self.out)


class Low(nn.Module):
    """A layer whose weights, input and result are of the dtype `dtype`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.to(self.dtype))
        return result
