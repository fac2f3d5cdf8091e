"""Attention of diffusers' VAE, in operators that every runtime reads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dexport.deploy.transformer import Attend


class PixelAttention(nn.Module):
    """Attention between the pixels of an image, as in the middle of diffusers' VAE, by `Attend`.

    attention: a `diffusers.models.attention_processor.Attention` with a residual connection.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.norm = attention.group_norm
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]  # at 1 lies dropout
        self.attend = Attend()
        self.heads, self.divisor = attention.heads, attention.rescale_output_factor

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """x: (N, C, H, W) -> the same shape. temb: VAEs have none, and say so."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        heads = (linear(pixels).unflatten(2, (self.heads, -1)) for linear in (self.to_q, self.to_k, self.to_v))
        mixed = self.attend(*(part.transpose(1, 2) for part in heads))
        added: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2)
        return (added.reshape(-1, *x.shape[1:]) + x) / float(self.divisor)
