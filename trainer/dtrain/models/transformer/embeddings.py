"""Time, class and position as vectors of the network's width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Width of the time sinusoid, and the longest period of time and of position in units of 2 pi.
TIME_DIM = 256
MAX_PERIOD = 10000


class TimeEmbedding(nn.Module):
    """t: (N,) -> (N, hidden_size), in the dtype of the weights."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_DIM, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def sinusoid(self, t: Tensor) -> Tensor:
        """t: (N,) of any number type -> (N, 256), always float32: cos, then sin, of t 10000^(-k/128), k = 0 .. 127.

        Neither order nor divisor is that of the U-Nets' sinusoid. Times in [0, 1] are not scaled up, as published.
        """
        half = TIME_DIM // 2
        index = torch.arange(half, device=t.device, dtype=torch.float32)
        angles = t.to(torch.float32)[:, None] * torch.exp(index * (-math.log(MAX_PERIOD) / half))
        return torch.cat((angles.cos(), angles.sin()), dim=1)

    def forward(self, t: Tensor) -> Tensor:
        weight = self.mlp[0].weight
        assert isinstance(weight, Tensor)
        embedding: Tensor = self.mlp(self.sinusoid(t).to(weight.dtype))
        return embedding


class LabelEmbedding(nn.Module):
    """y: (N,) int64 -> (N, hidden_size)."""

    def __init__(self, num_rows: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_rows, hidden_size)

    def forward(self, y: Tensor) -> Tensor:
        embedding: Tensor = self.embedding_table(y)
        return embedding


def position_table(hidden_size: int, side: int) -> Tensor:
    """Position as sines and cosines (He et al. 2022, MAE) -> (1, side^2, hidden_size) float32, tokens along the rows.

    The first half of each row encodes the token's column, the second its row, each as sin, then cos, of the index
    times 10000^(-k / (hidden_size / 4)), k = 0 .. hidden_size / 4 - 1, computed in float64 on the CPU.
    """
    quarter = hidden_size // 4
    index = torch.arange(quarter, dtype=torch.float64, device="cpu")
    place = torch.arange(side, dtype=torch.float64, device="cpu")
    angles = place[:, None] * MAX_PERIOD ** (-index / quarter)
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    table = torch.cat((axis.repeat(side, 1), axis.repeat_interleave(side, dim=0)), dim=1)
    return table.float()[None]
