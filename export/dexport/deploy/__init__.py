"""Turns a trained network into the one that is exported: the same function, in operators that every runtime reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from dexport.deploy.transformer import StaticAttention
from dexport.deploy.unet import fold_downsample, plain_norm
from dexport.deploy.vae import PixelAttention
from dtrain.models.transformer.layers import Attention
from dtrain.models.unet.blocks import Downsample
from dtrain.models.vae import Decoder

N = TypeVar("N", bound=nn.Module)

#: A module that runtimes misread -> the same function in operators that they read; a subclass is rewritten as its base.
REWRITES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Downsample: fold_downsample,
    nn.GroupNorm: plain_norm,
    Attention: StaticAttention,
}


def deployable(network: nn.Module) -> nn.Module:
    """A float32 network in eval mode without modules that runtimes misread; its outputs are equal up to rounding.

    `network` stays as it is. The two share the memory of those weights that are float32.
    """
    deployed = _with_the_same_weights(network).eval()
    _rewrite(deployed)
    return deployed.requires_grad_(False)


def _with_the_same_weights(network: N) -> N:
    """A copy of all modules, in float32, whose weights lie where those of `network` lie: a large one fits once."""
    weights: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().float(), requires_grad=False)
        for parameter in network.parameters()
    }
    weights |= {id(buffer): buffer.float() if buffer.is_floating_point() else buffer for buffer in network.buffers()}
    return copy.deepcopy(network, weights)


def _rewrite(module: nn.Module) -> None:
    for name, child in module.named_children():
        rewrite = next((rewrite for kind, rewrite in REWRITES.items() if isinstance(child, kind)), None)
        if rewrite is None:
            _rewrite(child)
        else:
            setattr(module, name, rewrite(child))


def deployable_decoder(decoder: Decoder) -> nn.Module:
    """`deployable` of the decoder of a VAE."""
    deployed = _with_the_same_weights(decoder)
    attentions: Any = deployed.decoder.mid_block.attentions
    for i, attention in enumerate(attentions):
        # A VAE without attention there has None.
        if attention is not None:
            attentions[i] = PixelAttention(attention)
    return deployable(deployed)
