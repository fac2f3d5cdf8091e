"""The networks SiT and DiT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drun.bundle.card import Classes, Shape
from drun.diffusion.prediction import LEARNED_RANGE
from drun.errors import ConfigError
from dtrain.models import Network
from dtrain.models.transformer.blocks import Block, FinalLayer
from dtrain.models.transformer.embeddings import LabelEmbedding, TimeEmbedding, position_table
from dtrain.models.transformer.layers import PatchEmbed, initialise_maps
from dtrain.models.transformer.sizes import check_image, check_sizes, name_or_mapping, size_of


class SiT(Network):
    """A transformer on patches of a latent, conditioned on time and class; its output is one image.

    input_size: side of the image or latent, pixels, a multiple of patch_size.
    size: S, B, L or XL, or a mapping {hidden_size, depth, num_heads}.
    patch_size: side of the patches, pixels of the input.
    channels: channels of the input.
    num_classes: number of labels; 0 is unconditional, without a label table.
    null_class: the table has one more row, for no label: `null_label`, which is num_classes.
    qk_norm: whether queries and keys are normed.

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
        resolved = size_of(size)
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
        return self.denoise(x, self.condition(t, y))

    def condition(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        """-> (N or 1, hidden_size), after the SiLU that all modulations begin with."""
        condition = self.t_embedder(t)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y)
        return F.silu(condition)

    def denoise(self, x: Tensor, condition: Tensor) -> Tensor:
        tokens = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self._unpatchify(self.final_layer(tokens, condition))

    def _unpatchify(self, rows: Tensor) -> Tensor:
        """(N, tokens, patch_size^2 C) in the order (patch row, patch column, channel) -> (N, C, S, S).

        CoreML has no transpose of 6 dimensions, so there are two of at most 4: the first puts patch rows into the
        image's rows, the second channels to the front.
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
        """Initialise as published (DiT, section 3.2): every block is the identity, and the output is zero."""
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


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
