"""The three U-Nets: what they share, and how each decodes a level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from drun.bundle.card import Shape
from drun.diffusion.prediction import LEARNED_RANGE
from drun.errors import ConfigError
from dtrain.models import Network
from dtrain.models.unet.blocks import AttentionGate, ConvNextBlock, Downsample, TimeMlp, Upsample

#: The most levels of a U-Net; each halves the image.
MAX_LEVELS = 12


class UNet(Network, ABC):
    """The base of the three U-Nets.

    They differ in `up_level`, the modules of a decoder level, and in `decode`, which uses them.

    dim: width of the net and of the time sinusoid, even and at least 4.
    init_dim: channels after the first convolution (default: dim).
    out_dim: channels of the output (default: channels); twice as many hold a learned variance, too.
    dim_mults: width of each level in units of dim; each level but the last halves the image.
    channels: channels of the input image.
    sinusoidal_pos_emb_theta: longest period of the time sinusoid, in units of 2 pi time steps.

    Raises ConfigError for sizes that make no net.
    """

    def __init__(
        self,
        dim: int,
        init_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: Sequence[int] = (1, 2, 4, 8),
        channels: int = 3,
        sinusoidal_pos_emb_theta: float = 10000,
    ) -> None:
        super().__init__()
        _check_sizes(dim, dim_mults)
        init_dim, out_dim = init_dim or dim, out_dim or channels
        self.config: dict[str, Any] = {
            "name": type(self).__name__,
            "dim": dim,
            "init_dim": init_dim,
            "out_dim": out_dim,
            "dim_mults": list(dim_mults),
            "channels": channels,
            "sinusoidal_pos_emb_theta": sinusoidal_pos_emb_theta,
        }
        self.channels = channels
        self.variance = LEARNED_RANGE if out_dim == 2 * channels else None
        self.side_multiple = 2 ** (len(dim_mults) - 1)
        time_dim = 4 * dim
        levels = list(pairwise([init_dim, *(dim * mult for mult in dim_mults)]))
        bottom = levels[-1][1]

        self.init_conv = nn.Conv2d(channels, init_dim, 7, padding=3)
        self.time_mlp = TimeMlp(dim, sinusoidal_pos_emb_theta)
        self.downs = nn.ModuleList(_down_level(*level, time_dim) for level in levels[:-1])
        self.downs.append(_down_level(*levels[-1], time_dim, last=True))
        self.ups = nn.ModuleList(self.up_level(*level, time_dim) for level in levels[:0:-1])
        self.ups.append(self.up_level(*levels[0], time_dim, last=True))
        self.mid_block1 = ConvNextBlock(bottom, bottom, time_dim)
        self.mid_block2 = ConvNextBlock(bottom, bottom, time_dim)
        self.final_res_block = ConvNextBlock(2 * init_dim, dim, time_dim)
        self.final_conv = nn.Conv2d(dim, out_dim, 1)

    def state_shape(self, side: int) -> Shape:
        self._check_sides(side, side)
        return self.channels, side, side

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, channels, H, W) float, t: (N,) or (1,) time index of any number type -> (N, out_dim, H, W).

        Raises ConfigError if H or W is not divisible by 2^(len(dim_mults) - 1), or if t is not a vector.
        """
        self._check_input(x, t)
        return self.denoise(x, self.condition(t))

    def condition(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        """-> (N or 1, 4 dim). y: there are no labels."""
        time: Tensor = self.time_mlp(t)
        return time

    def denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        time = condition
        x = first = self.init_conv(x)
        skips: list[tuple[Tensor, Tensor]] = []
        for level in self.downs:
            down1, down2, downsample = cast(nn.ModuleList, level)
            skip1 = down1(x, time)
            skip2 = down2(skip1, time)
            skips.append((skip1, skip2))
            x = downsample(skip2)
        x = self.mid_block2(self.mid_block1(x, time), time)
        for level in self.ups:
            x = self.decode(cast(nn.ModuleList, level), x, *skips.pop(), time)
        out: Tensor = self.final_conv(self.final_res_block(torch.cat((x, first), dim=1), time))
        return out

    @abstractmethod
    def up_level(self, dim_in: int, dim_out: int, time_dim: int, last: bool = False) -> nn.ModuleList:
        """The modules of the decoder level that takes dim_out channels back to dim_in."""

    @abstractmethod
    def decode(self, level: nn.ModuleList, x: Tensor, skip1: Tensor, skip2: Tensor, time: Tensor) -> Tensor:
        """Apply one decoder level. skip1, skip2: (N, dim_in, H, W), the outputs of the encoder's two blocks."""

    def _check_input(self, x: Tensor, t: Tensor) -> None:
        self._check_sides(*x.shape[-2:])
        if t.ndim != 1:
            raise ConfigError(f"the time has the wrong shape: got {tuple(t.shape)}, expected (N,) or (1,)")

    def _check_sides(self, height: int, width: int) -> None:
        if height % self.side_multiple or width % self.side_multiple:
            raise ConfigError(
                f"the image size does not fit {type(self).__name__}: got {height}x{width} pixels, expected sides "
                f"divisible by {self.side_multiple}; change the image size or use fewer dim_mults"
            )


class OneResUNet(UNet):
    """One skip per level: the encoder's second block to the decoder's first."""

    def up_level(self, dim_in: int, dim_out: int, time_dim: int, last: bool = False) -> nn.ModuleList:
        up1 = ConvNextBlock(dim_out + dim_in, dim_out, time_dim)
        up2 = ConvNextBlock(dim_out, dim_out, time_dim)
        return nn.ModuleList([up1, up2, _up_resize(dim_out, dim_in, last)])

    def decode(self, level: nn.ModuleList, x: Tensor, skip1: Tensor, skip2: Tensor, time: Tensor) -> Tensor:
        up1, up2, upsample = level
        x = up1(torch.cat((x, skip2), dim=1), time)
        out: Tensor = upsample(up2(x, time))
        return out


class TwoResUNet(UNet):
    """Two skips per level, last in, first out: the encoder's second block to the decoder's first."""

    def up_level(self, dim_in: int, dim_out: int, time_dim: int, last: bool = False) -> nn.ModuleList:
        blocks = [ConvNextBlock(dim_out + dim_in, dim_out, time_dim) for _ in range(2)]
        return nn.ModuleList([*blocks, _up_resize(dim_out, dim_in, last)])

    def decode(self, level: nn.ModuleList, x: Tensor, skip1: Tensor, skip2: Tensor, time: Tensor) -> Tensor:
        up1, up2, upsample = level
        x = up1(torch.cat((x, skip2), dim=1), time)
        x = up2(torch.cat((x, skip1), dim=1), time)
        out: Tensor = upsample(x)
        return out


class AttentionUNet(TwoResUNet):
    """Two skips per level, both through the level's one attention gate, steered by the decoder."""

    def up_level(self, dim_in: int, dim_out: int, time_dim: int, last: bool = False) -> nn.ModuleList:
        level = super().up_level(dim_in, dim_out, time_dim, last)
        return nn.ModuleList([AttentionGate(dim_out, dim_in), *level])

    def decode(self, level: nn.ModuleList, x: Tensor, skip1: Tensor, skip2: Tensor, time: Tensor) -> Tensor:
        gate, up1, up2, upsample = level
        x = up1(torch.cat((x, gate(x, skip2)), dim=1), time)
        x = up2(torch.cat((x, gate(x, skip1)), dim=1), time)
        out: Tensor = upsample(x)
        return out


def _check_sizes(dim: int, dim_mults: Sequence[int]) -> None:
    if dim < 4 or dim % 2:
        raise ConfigError(f"dim got {dim}, expected an even number from 4 on, for sines and cosines of the time")
    if len(dim_mults) > MAX_LEVELS:
        raise ConfigError(f"dim_mults has {len(dim_mults)} levels, expected at most {MAX_LEVELS}")
    if not dim_mults:
        raise ConfigError("dim_mults is empty, expected one width for each level, such as 1, 2, 4, 8")
    if min(dim_mults) < 1:
        raise ConfigError(f"dim_mults got {list(dim_mults)}, expected widths of at least 1")


def _down_level(dim_in: int, dim_out: int, time_dim: int, last: bool = False) -> nn.ModuleList:
    blocks = [ConvNextBlock(dim_in, dim_in, time_dim) for _ in range(2)]
    resize = nn.Conv2d(dim_in, dim_out, 3, padding=1) if last else Downsample(dim_in, dim_out)
    return nn.ModuleList([*blocks, resize])


def _up_resize(dim_in: int, dim_out: int, last: bool) -> nn.Module:
    return nn.Conv2d(dim_in, dim_out, 3, padding=1) if last else Upsample(dim_in, dim_out)
