"""The blocks that the U-Nets are built of."""

from __future__ import annotations

import math

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from dtrain.models import Projection


class Sinusoid(nn.Module):
    """Time as sines, then cosines: frequency i is theta^(-i / (dim/2 - 1)), i = 0 .. dim/2 - 1.

    The concatenation order and the divisor are those of Ho et al. 2020 (DDPM); ADM and DiT use others.
    """

    def __init__(self, dim: int, theta: float) -> None:
        super().__init__()
        self.dim = dim
        self.theta = theta

    def forward(self, t: Tensor) -> Tensor:
        """t: (N,) of any number type -> (N, dim), always float32: bf16 holds no integer above 256 exactly."""
        half = self.dim // 2
        index = torch.arange(half, device=t.device, dtype=torch.float32)
        freqs = torch.exp(index * (-math.log(self.theta) / (half - 1)))
        angles = t.to(torch.float32)[:, None] * freqs
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class TimeMlp(nn.Sequential):
    """t: (N,) -> (N, 4 dim), in the dtype of the weights."""

    def __init__(self, dim: int, theta: float) -> None:
        linear, out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, 4 * dim)
        super().__init__(Sinusoid(dim, theta), linear, nn.GELU(), out)

    def forward(self, t: Tensor) -> Tensor:
        sinusoid, linear, gelu, out = self
        embedding: Tensor = out(gelu(linear(sinusoid(t).to(linear.weight.dtype))))
        return embedding


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, plus the time, then two normalised 3x3 convolutions, around a residual.

    Unlike ConvNeXt (Liu et al. 2022) it has 3x3 convolutions for 1x1 and no layer scale. The norms are
    over all channels and pixels of an image: GroupNorm with one group.
    """

    def __init__(self, dim_in: int, dim_out: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = Projection(nn.GELU(), nn.Linear(time_dim, dim_in))
        self.in_conv = nn.Conv2d(dim_in, dim_in, 7, padding=3, groups=dim_in)
        self.block = nn.Sequential(
            nn.GroupNorm(1, dim_in),
            nn.Conv2d(dim_in, 2 * dim_out, 3, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 2 * dim_out),
            nn.Conv2d(2 * dim_out, dim_out, 3, padding=1),
        )
        self.residual_conv = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: (N, dim_in, H, W), time: (N or 1, time_dim) -> (N, dim_out, H, W)."""
        h = self.in_conv(x) + self.mlp(time)[:, :, None, None]
        out: Tensor = self.block(h) + self.residual_conv(x)
        return out


class Downsample(nn.Module):
    """(N, dim_in, H, W) -> (N, dim_out, H/2, W/2): 2x2 blocks of pixels become channels, then a 1x1 conv.

    Equal to one 2x2 convolution of stride 2 with weight `net[1].weight.view(dim_out, dim_in, 2, 2)`.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (c p1 p2) h w", p1=2, p2=2),
            nn.Conv2d(4 * dim_in, dim_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Upsample(nn.Module):
    """(N, dim_in, H, W) -> (N, dim_out, 2H, 2W): nearest neighbour, then a 3x3 conv."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(dim_in, dim_out, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class AttentionGate(nn.Module):
    """Additive attention on a skip (Oktay et al. 2018, eq. 1-2): one weight in (0, 1) per pixel."""

    def __init__(self, gate_dim: int, skip_dim: int) -> None:
        super().__init__()
        self.gate_conv = nn.Conv2d(gate_dim, gate_dim, 1)
        self.residual_conv = nn.Conv2d(skip_dim, gate_dim, 1)
        self.in_conv = nn.Conv2d(gate_dim, 1, 1)

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """gate: (N, gate_dim, H, W), skip: (N, skip_dim, H, W) -> the weighted skip, (N, skip_dim, H, W)."""
        hidden = torch.relu(self.gate_conv(gate) + self.residual_conv(skip))
        return torch.sigmoid(self.in_conv(hidden)) * skip
