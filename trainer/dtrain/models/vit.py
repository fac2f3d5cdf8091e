"""A small plain vision transformer (Dosovitskiy et al. 2021): a teacher of features, trained with labels or without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from drun.bundle.card import Classes
from drun.errors import ConfigError
from dtrain.models import Encoder, Network
from dtrain.models.transformer.layers import Attention, Mlp, PatchEmbed, initialise_maps
from dtrain.models.transformer.sizes import Size, check_image, check_sizes


class EncoderBlock(nn.Module):
    """Attention, then an MLP, each behind a norm and around a residual."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.mlp = Mlp(hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, hidden_size) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(Encoder):
    """Class logits from the mean of the patches' tokens: no class token (Beyer et al. 2022, arXiv:2205.01580).

    image_size: side of the image in pixels, a multiple of patch_size.
    patch_size: side of the patches, pixels.
    channels: channels of the image.
    num_classes: number of labels; 0: it gives tokens alone.
    hidden_size: width of the tokens, a multiple of num_heads and of 4.
    depth: number of blocks.
    num_heads: number of attention heads.

    Attributes: `config` (what `dtrain.models.build` makes it again from), `num_tokens` and `hidden_size`.

    Raises ConfigError for sizes that make no net.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int,
        num_classes: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        check_sizes(image_size, patch_size, Size(hidden_size, depth, num_heads))
        if num_classes < 0:
            raise ConfigError(f"num_classes got {num_classes}, expected 0 or more")
        self.config: dict[str, Any] = {
            "name": type(self).__name__,
            "image_size": image_size,
            "patch_size": patch_size,
            "channels": channels,
            "num_classes": num_classes,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
        }
        self.image_size, self.channels, self.hidden_size = image_size, channels, hidden_size
        self.classes = Classes(num_classes, None) if num_classes else None
        self.num_tokens = (image_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_tokens, hidden_size))
        self.x_embedder = PatchEmbed(patch_size, channels, hidden_size)
        self.blocks = nn.ModuleList(EncoderBlock(hidden_size, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.head = nn.Linear(hidden_size, num_classes) if num_classes else nn.Identity()
        initialise_maps(self)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, channels, image_size, image_size) float -> (N, num_classes) logits, without classes the mean token.

        Raises ConfigError for another shape.
        """
        logits: Tensor = self.head(self.tokens(x).mean(dim=1))
        return logits

    def tokens(self, x: Tensor) -> Tensor:
        return self.encode(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """The patches with their positions, (N, num_tokens, hidden_size). Raises ConfigError for another shape."""
        check_image(type(self).__name__, x, self.channels, self.image_size)
        embedded: Tensor = self.x_embedder(x) + self.pos_embed
        return embedded

    def encode(self, tokens: Tensor) -> Tensor:
        """Any tokens of `embed`, (N, T, hidden_size), through the blocks and the last norm."""
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out


MODELS: dict[str, type[Network]] = {"ViT": ViT}
