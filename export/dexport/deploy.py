"""From a trained network to the one that is exported: the same function, in operators that every runtime reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dtrain.models.transformer import Attention
from dtrain.models.unet import Downsample
from dtrain.models.vae import Decoder


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


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (Vaswani et al. 2017, eq. 1) in parts, its softmax in float32; q, k, v: (N, heads, tokens, head_dim).

    As one operator it is exported with the shape of K computed at run time, and is no faster in ONNX Runtime. Of ONNX's
    own Attention, of opset 23, TensorRT-RTX builds no float32 engine. The scale goes to Q, where TensorRT looks for it
    when it fuses.
    """
    scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
    return torch.softmax(scores, dim=3, dtype=torch.float32).to(v.dtype) @ v


class StaticAttention(nn.Module):
    """The transformers' `Attention` by `attend`."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = (attention.num_heads, attention.head_dim)
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, hidden_size) -> the same shape."""
        q, k, v = (part.unflatten(2, self.heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        mixed = attend(self.q_norm(q), self.k_norm(k), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class PixelAttention(nn.Module):
    """Attention between the pixels of an image, as in the middle of diffusers' VAE, by `attend`.

    attention: a `diffusers.models.attention_processor.Attention` with a residual connection.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.norm = attention.group_norm
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]  # at 1 lies dropout
        self.heads, self.divisor = attention.heads, attention.rescale_output_factor

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """x: (N, C, H, W) -> the same shape. temb: VAEs have none, and say so."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        heads = (linear(pixels).unflatten(2, (self.heads, -1)) for linear in (self.to_q, self.to_k, self.to_v))
        mixed = attend(*(part.transpose(1, 2) for part in heads))
        added: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2)
        return (added.reshape(-1, *x.shape[1:]) + x) / float(self.divisor)


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
    """A float32 copy in eval mode with what runtimes misread rewritten; same outputs up to rounding."""
    deployed = copy.deepcopy(network).float().eval()
    _rewrite(deployed)
    return deployed.requires_grad_(False)


def plain_norm(norm: nn.GroupNorm) -> nn.Module:
    return ImageNorm(norm) if norm.num_groups == 1 else GroupedNorm(norm)


#: What runtimes misread -> the same function in operators that they read; a subclass is rewritten as its base.
REWRITES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Downsample: fold_downsample,
    nn.GroupNorm: plain_norm,
    Attention: StaticAttention,
}


def _rewrite(module: nn.Module) -> None:
    for name, child in module.named_children():
        rewrite = next((rewrite for kind, rewrite in REWRITES.items() if isinstance(child, kind)), None)
        if rewrite is None:
            _rewrite(child)
        else:
            setattr(module, name, rewrite(child))


def deployable_decoder(decoder: Decoder) -> nn.Module:
    """`deployable` of the decoder of a VAE."""
    deployed = copy.deepcopy(decoder)
    attentions: Any = deployed.decoder.mid_block.attentions
    for i, attention in enumerate(attentions):
        # A VAE without attention there has None.
        if attention is not None:
            attentions[i] = PixelAttention(attention)
    return deployable(deployed)
