"""Attention of the transformers, with all shapes but the batch constant."""

from __future__ import annotations

from torch import Tensor, nn

from dtrain.models.transformer.layers import Attention


class Attend(nn.Module):
    """Attention (Vaswani et al. 2017, eq. 1) in parts; q, k, v: (N, heads, tokens, head_dim) -> the shape of v.

    As one operator it is exported with the shape of K computed at run time, and is no faster in ONNX Runtime.
    TensorRT-RTX builds no float32 engine from ONNX's own Attention of opset 23. The scale goes to Q, where TensorRT
    looks for it when it fuses. The softmax is a module, which graphs of lower precisions keep in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=3)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights: Tensor = self.softmax((q * q.shape[3] ** -0.5) @ k.transpose(2, 3))
        return weights @ v


class StaticAttention(nn.Module):
    """The transformers' `Attention` by `Attend`."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = (attention.num_heads, attention.head_dim)
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.attend = Attend()

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, hidden_size) -> the same shape."""
        q, k, v = (part.unflatten(2, self.heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        mixed = self.attend(self.q_norm(q), self.k_norm(k), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class FusedAttend(nn.Module):
    """Attention as one operator, which Core ML's GPU computes without the matrix of weights; see `Attend`."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


def fuse_attention(network: nn.Module) -> nn.Module:
    """The network itself, with `FusedAttend` wherever it had `Attend`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Attend):
                setattr(module, name, FusedAttend())
    return network
