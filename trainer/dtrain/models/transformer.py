"""Diffusion transformers: DiT (Peebles & Xie 2023, arXiv:2212.09748) and SiT (Ma et al. 2024, arXiv:2401.08740).

The state-dict keys and shapes are those of the published weights, of DiT, SiT and REPA alike, so these load. No
tensor in `forward` has more than 5 dimensions and all but the batch are constants, as CoreML and TensorRT like it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drun.bundle.card import Classes, Shape
from drun.diffusion.prediction import LEARNED_RANGE
from drun.errors import ConfigError
from dtrain.models import Network

#: Width of the time sinusoid, and the longest period of time and of position in units of 2 pi.
TIME_DIM = 256
MAX_PERIOD = 10000


#: Numbers in the table of positions, and blocks: no published network comes near, and a damaged file may.
MAX_POSITIONS, MAX_DEPTH = 1 << 27, 1000


@dataclass(frozen=True)
class Size:
    """Width, number of blocks and attention heads (DiT, table 1)."""

    hidden_size: int
    depth: int
    num_heads: int


SIZES = {"S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16), "XL": Size(1152, 28, 16)}


class PatchEmbed(nn.Module):
    """(N, C, H, W) -> (N, tokens, hidden_size): each patch by one linear map; tokens go along the rows."""

    def __init__(self, patch_size: int, channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    qk_norm: a LayerNorm over each head's queries and keys (Dehghani et al. 2023, section 2.2).
    """

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = nn.LayerNorm(self.head_dim, eps=1e-5) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-5) if qk_norm else nn.Identity()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, hidden_size) -> the same shape."""
        heads = (self.num_heads, self.head_dim)
        q, k, v = (part.unflatten(2, heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """(..., hidden_size) -> the same shape, through four times the width and the tanh form of GELU."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, 4 * hidden_size)
        self.fc2 = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


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


class Block(nn.Module):
    """Attention, then an MLP, each normed, modulated and gated by the condition: adaLN-Zero (DiT, figure 3)."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(hidden_size, num_heads, qk_norm)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(hidden_size)
        self.adaLN_modulation = _modulation(hidden_size, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (N, tokens, hidden_size), condition: (N or 1, hidden_size) after its SiLU -> the shape of x."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attn(_modulate(self.norm1(x), shift1, scale1))
        out: Tensor = x + gate2 * self.mlp(_modulate(self.norm2(x), shift2, scale2))
        return out


class FinalLayer(nn.Module):
    """(N, tokens, hidden_size) -> (N, tokens, patch_size^2 channels): a modulated norm and a linear map."""

    def __init__(self, hidden_size: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(hidden_size, patch_size**2 * channels)
        self.adaLN_modulation = _modulation(hidden_size, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=2)
        out: Tensor = self.linear(_modulate(self.norm_final(x), shift, scale))
        return out


class SiT(Network):
    """A transformer on patches of a latent, conditioned on time and class; its output is one image.

    input_size: side of the image or latent, pixels, a multiple of patch_size.
    size: S, B, L or XL, or a mapping {hidden_size, depth, num_heads}.
    patch_size: side of the patches, pixels of the input.
    channels: channels of the input.
    num_classes: number of labels; 0 is unconditional, without a label table.
    null_class: the table has one more row, for no label: `null_label`, which is num_classes.
    qk_norm: queries and keys are normed.

    Attributes: `config` (what `dtrain.models.build` makes it again from), `blocks`, `num_tokens`, `hidden_size`,
    `null_label` (None where there is none) and `out_channels`.

    Raises ConfigError for sizes that make no net.
    """

    #: Output channels for each input channel.
    out_multiple: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        size: str | Mapping[str, int] = "B",
        patch_size: int = 2,
        channels: int = 4,
        num_classes: int = 1000,
        null_class: bool = True,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        resolved = _resolve(size)
        check_sizes(input_size, patch_size, resolved)
        if num_classes < 0:
            raise ConfigError(f"num_classes got {num_classes}, expected 0 (no classes) or more")
        self.config: dict[str, Any] = {
            "name": type(self).__name__,
            "input_size": input_size,
            "size": name_or_mapping(resolved),
            "patch_size": patch_size,
            "channels": channels,
            "num_classes": num_classes,
            "null_class": null_class,
            "qk_norm": qk_norm,
        }
        self.input_size, self.patch_size, self.channels = input_size, patch_size, channels
        self.out_channels = self.out_multiple * channels
        self.grid_size = input_size // patch_size
        self.num_tokens = self.grid_size**2
        self.hidden_size = hidden = resolved.hidden_size
        self.null_label = num_classes if num_classes and null_class else None
        self.classes = Classes(num_classes, self.null_label) if num_classes else None
        self.variance = LEARNED_RANGE if self.out_channels == 2 * channels else None

        self.pos_embed = nn.Parameter(torch.empty(1, self.num_tokens, hidden), requires_grad=False)
        self.x_embedder = PatchEmbed(patch_size, channels, hidden)
        self.t_embedder = TimeEmbedding(hidden)
        self.y_embedder = LabelEmbedding(num_classes + null_class, hidden) if num_classes else None
        self.blocks = nn.ModuleList(Block(hidden, resolved.num_heads, qk_norm) for _ in range(resolved.depth))
        self.final_layer = FinalLayer(hidden, patch_size, self.out_channels)
        self._initialise()

    def state_shape(self, side: int) -> Shape:
        return self.channels, self.input_size, self.input_size

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x: (N, channels, input_size, input_size), t: (N,) or (1,), y: (N,) -> (N, out_channels, same sides).

        x: float, in the dtype of the weights unless under autocast.
        t: of any number type, in the time that the net was trained on.
        y: int64 labels in 0 .. num_classes (the last is `null_label`), or None if the net is unconditional. No label
            is dropped here: for training, replace some by `null_label` before.

        Raises ConfigError for other shapes, for labels that are missing and for labels that have no use.
        """
        self._check_input(x, t, y)
        condition = self.t_embedder(t)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        condition = F.silu(condition)
        tokens = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self._unpatchify(self.final_layer(tokens, condition))

    def _unpatchify(self, rows: Tensor) -> Tensor:
        """(N, tokens, patch_size^2 C) in the order (patch row, patch column, channel) -> (N, C, S, S).

        Two transposes of at most 4 dimensions, as CoreML has none of 6: first patch rows into the image's, then
        channels to the front.
        """
        grid, patch, side = self.grid_size, self.patch_size, self.input_size
        lines = rows.reshape(-1, grid, patch, patch * self.out_channels).transpose(1, 2)
        return lines.reshape(-1, side, side, self.out_channels).permute(0, 3, 1, 2)

    def _check_input(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        check_image(type(self).__name__, x, self.channels, self.input_size)
        if t.ndim != 1:
            raise ConfigError(f"the time has the wrong shape: got {tuple(t.shape)}, expected (N,) or (1,)")
        if self.y_embedder is None and y is not None:
            name = type(self).__name__
            raise ConfigError(f"{name} has no classes: got labels, expected None: leave them out or set num_classes")
        if self.y_embedder is not None and (y is None or y.ndim != 1):
            got = "None" if y is None else f"shape {tuple(y.shape)}"
            null = "it has no null label" if self.null_label is None else f"{self.null_label} is the null label"
            raise ConfigError(f"{type(self).__name__} needs labels: got {got}, expected (N,) int64; {null}")

    @torch.no_grad()
    def _initialise(self) -> None:
        """As published (DiT, section 3.2): every block is the identity, and the output zero."""
        initialise_maps(self)
        self.pos_embed.copy_(position_table(self.hidden_size, self.grid_size))
        if self.y_embedder is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for layer in self.t_embedder.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, Block | FinalLayer):
                _zero(module.adaLN_modulation[1])
        _zero(self.final_layer.linear)


class DiT(SiT):
    """A SiT whose output is the prediction, then a learned-range variance: 2 channels for each of the input."""

    out_multiple: ClassVar[int] = 2


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


@torch.no_grad()
def initialise_maps(module: nn.Module) -> None:
    """Every linear map and patch embedding in `module`: Xavier-uniform weight (Glorot & Bengio 2010), zero bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            # A patch embedding is a linear map of all that is in a patch.
            nn.init.xavier_uniform_(layer.weight.flatten(1))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_sizes(input_size: int, patch_size: int, size: Size) -> None:
    """Raises ConfigError for an input that is not a grid of patches, or a width that does not divide into heads."""
    if min(input_size, patch_size) < 1 or input_size % patch_size:
        raise ConfigError(
            f"the input is not a grid of patches: got side {input_size} and patch_size {patch_size}, expected a "
            "multiple of patch_size; change either"
        )
    for key, number in asdict(size).items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"{key} got {number}, expected a whole number above 0: set it in size")
    if (input_size // patch_size) ** 2 * size.hidden_size > MAX_POSITIONS or size.depth > MAX_DEPTH:
        raise ConfigError(f"the network is too large: got side {input_size}, patches of {patch_size} and {size}")
    if size.hidden_size % size.num_heads or size.hidden_size % 4:
        raise ConfigError(
            f"hidden_size got {size.hidden_size} with {size.num_heads} heads, expected a multiple "
            "of num_heads and of 4: change either"
        )


def check_image(name: str, x: Tensor, channels: int, side: int) -> None:
    """Raises ConfigError unless x is (N, channels, side, side)."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (channels, side, side):
        raise ConfigError(
            f"the input does not fit {name}: got {tuple(x.shape)}, expected (N, {channels}, {side}, {side}); "
            "resize it or build the network for its size"
        )


def name_or_mapping(size: Size) -> str | dict[str, Any]:
    """The name of a published size, or the numbers of another."""
    return next((name for name, known in SIZES.items() if known == size), asdict(size))


def _resolve(size: str | Mapping[str, int]) -> Size:
    if isinstance(size, Mapping) and set(size) == set(Size.__annotations__):
        return Size(**size)
    if isinstance(size, str) and size in SIZES:
        return SIZES[size]
    expected = f"one of {', '.join(SIZES)} or a mapping of {', '.join(Size.__annotations__)}"
    raise ConfigError(f"model.size got {size!r}, expected {expected}")


def _modulation(hidden_size: int, num_parts: int) -> nn.Sequential:
    """The linear map is at index 1 of its key; the SiLU that was at 0 is the same for all blocks, and taken once."""
    return nn.Sequential(nn.Identity(), nn.Linear(hidden_size, num_parts * hidden_size))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


MODELS: dict[str, type[Network]] = {net.__name__: net for net in (SiT, DiT)}
