"""SiT and DiT with tokens (N, C, 1, S): channels first, as Apple's Neural Engine lays them out.

Apple's rules, with their reasons: github.com/apple/ml-ane-transformers. Linear maps are 1x1 convolutions, attention is
computed a head at a time, and its softmax goes along the channels, where the keys are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dexport.deploy.split import Columns
from dexport.deploy.transformer import StaticAttention
from dtrain.models.transformer.blocks import Block, FinalLayer
from dtrain.models.transformer.networks import SiT

#: What a checkpoint holds for the conditioning, which is the other graph.
CONDITIONING = ("t_embedder.", "y_embedder.", ".adaLN_modulation.")


class Pointwise(nn.Conv2d):
    """A linear map as a 1x1 convolution: (N, C_in, 1, S) -> (N, C_out, 1, S). It loads the weights of a linear map."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
        _before_loading(self, _as_convolution)


def _before_loading(module: Any, hook: Callable[..., None]) -> None:
    """Let a hook change what the module loads: (module, state, prefix of the module's names, ...)."""
    module.register_load_state_dict_pre_hook(hook)


def _as_convolution(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    state[f"{prefix}weight"] = state[f"{prefix}weight"][:, :, None, None]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (N, C, 1, S), which are the second axis here."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight = nn.Parameter(torch.ones(norm.normalized_shape)) if norm.elementwise_affine else None
        self.bias = nn.Parameter(torch.zeros(norm.normalized_shape)) if norm.elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normed = centred * torch.rsqrt(variance + self.eps)
        if self.weight is None or self.bias is None:
            return normed
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


def _norm(norm: nn.Module) -> nn.Module:
    return ChannelNorm(norm) if isinstance(norm, nn.LayerNorm) else nn.Identity()


class SplitAttention(nn.Module):
    """Attention a head at a time: (N, C, 1, S) -> the same shape."""

    def __init__(self, attention: StaticAttention) -> None:
        super().__init__()
        _, self.head_dim = attention.heads
        self.qkv, self.proj = Pointwise(attention.qkv), Pointwise(attention.proj)
        self.q_norm, self.k_norm = _norm(attention.q_norm), _norm(attention.k_norm)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=1)
        q, k = self._normed(self.q_norm, q) * self.head_dim**-0.5, self._normed(self.k_norm, k).transpose(1, 3)
        heads = zip(self._heads(q), self._heads(k, 3), self._heads(v), strict=True)
        out: Tensor = self.proj(torch.cat([_attended(*head) for head in heads], dim=1))
        return out

    def _heads(self, x: Tensor, axis: int = 1) -> Sequence[Tensor]:
        """The channels of each head, which lie along an axis."""
        return torch.split(x, self.head_dim, axis)

    def _normed(self, norm: nn.Module, x: Tensor) -> Tensor:
        if isinstance(norm, nn.Identity):
            return x
        return torch.cat([norm(head) for head in self._heads(x)], dim=1)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of a head; q, v: (N, head_dim, 1, S), k: (N, S, 1, head_dim) -> the shape of v."""
    weights = torch.einsum("bchq,bkhc->bkhq", q, k).softmax(dim=1)
    return torch.einsum("bkhq,bchk->bchq", weights, v)


class ChannelsFirstBlock(nn.Module):
    """`Block` on (N, C, 1, S), with its columns of c (N, width, 1, 1)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.columns = _columns(block)
        self.norm1, self.norm2 = _norm(block.norm1), _norm(block.norm2)
        attention: Any = block.attn
        self.attn = SplitAttention(attention)
        self.mlp = nn.ModuleDict({"fc1": Pointwise(block.mlp.fc1), "fc2": Pointwise(block.mlp.fc2)})

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = c[:, self.columns].chunk(6, dim=1)
        x = x + gate1 * self.attn(_modulate(self.norm1(x), shift1, scale1))
        hidden = self.mlp["fc1"](_modulate(self.norm2(x), shift2, scale2))
        out: Tensor = x + gate2 * self.mlp["fc2"](nn.functional.gelu(hidden, approximate="tanh"))
        return out


class ChannelsFirstFinal(nn.Module):
    """`FinalLayer` on (N, C, 1, S), whose channels come out as `pixel_shuffle` takes them."""

    def __init__(self, layer: FinalLayer, patch_size: int) -> None:
        super().__init__()
        self.columns, self.patch_size = _columns(layer), patch_size
        self.norm_final = _norm(layer.norm_final)
        self.linear = Pointwise(layer.linear)
        _before_loading(self, _channels_before_patches)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = c[:, self.columns].chunk(2, dim=1)
        out: Tensor = self.linear(_modulate(self.norm_final(x), shift, scale))
        return out


def _channels_before_patches(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """From (patch row, patch column, channel) to (channel, patch row, patch column)."""
    for name in ("linear.weight", "linear.bias"):
        value = state[prefix + name]
        parts = value.unflatten(0, (module.patch_size**2, -1))
        state[prefix + name] = parts.transpose(0, 1).flatten(0, 1)


class ChannelsFirst(nn.Module):
    """A SiT or DiT without its conditioning: x (N, C, H, W), c (N, width) -> (N, out_channels, H, W).

    It has its own modules, which load the state of the network by hooks.

    network: a deployable one, whose projections are columns of c: see `dexport.deploy.split`.
    """

    @classmethod
    def of(cls, network: SiT) -> ChannelsFirst:
        """It shares the weights of the network, where they only change their shape."""
        with torch.device("meta"):
            made = cls(network)
        made.load_state_dict(network.state_dict(), assign=True)
        return made.eval().requires_grad_(False)

    def __init__(self, network: SiT) -> None:
        super().__init__()
        self.grid_size, self.patch_size = network.grid_size, network.patch_size
        patch, embed = self.patch_size, network.x_embedder.proj
        own = nn.Conv2d(embed.in_channels, embed.out_channels, patch, stride=patch)
        self.x_embedder = nn.ModuleDict({"proj": own})
        self.pos_embed = nn.Parameter(torch.empty(1, network.hidden_size, 1, network.num_tokens))
        blocks: Any = network.blocks
        self.blocks = nn.ModuleList(ChannelsFirstBlock(block) for block in blocks)
        self.final_layer = ChannelsFirstFinal(network.final_layer, network.patch_size)
        _before_loading(self, _without_conditioning)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        tokens = self.x_embedder["proj"](x).flatten(2).unsqueeze(2) + self.pos_embed
        columns = c[:, :, None, None]
        for block in self.blocks:
            tokens = block(tokens, columns)
        patches = self.final_layer(tokens, columns).reshape(len(x), -1, self.grid_size, self.grid_size)
        return nn.functional.pixel_shuffle(patches, self.patch_size)


def _without_conditioning(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in state if any(part in name for part in CONDITIONING)]:
        del state[name]
    state[f"{prefix}pos_embed"] = state[f"{prefix}pos_embed"].transpose(1, 2)[:, :, None]


def _columns(module: Any) -> slice:
    projection = module.adaLN_modulation
    assert isinstance(projection, Columns)
    return slice(projection.start, projection.stop)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift
