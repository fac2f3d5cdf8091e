"""Turns a trained network into the one that is exported: the same function, in operators that every runtime reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from dexport.deploy.transformer import StaticAttention
from dexport.deploy.unet import fold_downsample, plain_norm
from dexport.deploy.vae import PixelAttention
from dtrain.models.transformer.layers import Attention
from dtrain.models.unet.blocks import Downsample
from dtrain.models.vae import Decoder

#: A module that runtimes misread -> the same function in operators that they read; a subclass is rewritten as its base.
REWRITES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Downsample: fold_downsample,
    nn.GroupNorm: plain_norm,
    Attention: StaticAttention,
}


def deployable(network: nn.Module) -> nn.Module:
    """A float32 copy in eval mode without modules that runtimes misread; its outputs are equal up to rounding."""
    deployed = copy.deepcopy(network).float().eval()
    _rewrite(deployed)
    return deployed.requires_grad_(False)


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
