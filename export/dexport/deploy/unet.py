"""Norms and downsampling of convolutional networks, in operators that every runtime reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dtrain.models.unet.blocks import Downsample


class ImageNorm(nn.Module):
    """`GroupNorm(1, C)` with each mean taken over the pixels first, then over the channels.

    Runtimes add up a plane of 10^5..10^6 float32 values in sequence, in every fused form of this norm, and lose
    a digit that the next convolution amplifies; two short means keep it. Nor does any parser misread it, as
    TensorRT's does `GroupNormalization` with one group.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(norm.weight.detach()[:, None, None].clone())
        self.bias = nn.Parameter(norm.bias.detach()[:, None, None].clone())
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> the same shape, mean 0 and variance 1 over each image, then scaled by channel."""
        centred = x - _image_mean(x)
        variance = _image_mean(centred * centred)
        return centred * (torch.rsqrt(variance + self.eps) * self.weight) + self.bias


def _image_mean(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 1, 1, 1)."""
    return x.mean(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)


class GroupedNorm(nn.Module):
    """`GroupNorm` with any number of groups: the means as in `ImageNorm`, and all shapes but the batch constant.

    As one operator it is exported as an InstanceNormalization between Reshapes, one to a shape computed at run time;
    a decoder of 256 pixels is then three times further from eager PyTorch, and no faster.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups = (norm.num_groups, norm.num_channels // norm.num_groups)
        self.weight = nn.Parameter(norm.weight.detach().reshape(*self.groups, 1).clone())
        self.bias = nn.Parameter(norm.bias.detach().reshape(*self.groups, 1).clone())
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> the same shape, mean 0 and variance 1 over each group, then scaled by channel."""
        grouped = x.reshape(-1, *self.groups, x.shape[2:].numel())
        centred = grouped - _group_mean(grouped)
        variance = _group_mean(centred * centred)
        normed = centred * (torch.rsqrt(variance + self.eps) * self.weight) + self.bias
        return normed.reshape(-1, *x.shape[1:])


def _group_mean(x: Tensor) -> Tensor:
    """(N, groups, channels, pixels) -> (N, groups, 1, 1)."""
    return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)


def plain_norm(norm: nn.GroupNorm) -> nn.Module:
    return ImageNorm(norm) if norm.num_groups == 1 else GroupedNorm(norm)


def fold_downsample(down: Downsample) -> nn.Conv2d:
    """Pixel-unshuffle and 1x1 convolution as one 2x2 convolution of stride 2, exactly.

    Runtimes disagree on the channel order of a space-to-depth operator, and CoreML has no rank-6 transpose.
    """
    pointwise = down.net[1]
    assert isinstance(pointwise, nn.Conv2d)
    channels_out, channels_in = pointwise.out_channels, pointwise.in_channels // 4
    folded = nn.Conv2d(channels_in, channels_out, kernel_size=2, stride=2)
    folded.load_state_dict(
        {"weight": pointwise.weight.detach().view(channels_out, channels_in, 2, 2), "bias": pointwise.bias}
    )
    return folded
