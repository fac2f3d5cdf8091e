"""Attention of the transformers, with all shapes but the batch constant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dtrain.models.transformer.layers import Attention


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (Vaswani et al. 2017, eq. 1) in parts, its softmax in float32; q, k, v: (N, heads, tokens, head_dim).

    As one operator it is exported with the shape of K computed at run time, and is no faster in ONNX Runtime.
    TensorRT-RTX builds no float32 engine from ONNX's own Attention of opset 23. The scale goes to Q, where TensorRT
    looks for it when it fuses.
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
