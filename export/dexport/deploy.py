"""From a trained network to the one that is exported: the same function, in operators that every runtime reads."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dtrain.models.unet import Downsample


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


def deployable(network: nn.Module) -> nn.Module:
    """A float32 copy in eval mode with its norms and down-samplings rewritten; same outputs up to rounding."""
    deployed = copy.deepcopy(network).float().eval().requires_grad_(False)
    _rewrite(deployed)
    return deployed


def _rewrite(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Downsample):
            setattr(module, name, fold_downsample(child).requires_grad_(False))
        elif isinstance(child, nn.GroupNorm) and child.num_groups == 1:
            setattr(module, name, ImageNorm(child).requires_grad_(False))
        else:
            _rewrite(child)
