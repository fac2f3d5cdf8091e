"""The blocks and the last layer, modulated by time and class (adaLN-Zero: DiT, figure 3)."""

from __future__ import annotations

from torch import Tensor, nn

from dtrain.models import Projection
from dtrain.models.transformer.layers import Attention, Mlp


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


def _modulation(hidden_size: int, num_parts: int) -> Projection:
    """The linear map has index 1 in its key. The SiLU of index 0 is the same for all blocks, so it is computed once."""
    return Projection(nn.Identity(), nn.Linear(hidden_size, num_parts * hidden_size))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift
