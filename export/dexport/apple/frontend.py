"""A network as a torch.export program that Core ML's converter reads rightly.

The converter silently computes something else for some operators and arguments. They are rewritten here, and every
argument of every operator is known to be read, or refused: `operators`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from dexport.apple import operators
from dexport.tracing import quiet
from drun.errors import ExportError, door

aten: Any = torch.ops.aten


def exported(network: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Trace a network for inputs of fixed shapes.

    Args:
        network: in float32 and eval mode. inputs: in the order of its `forward`.

    Raises:
        ExportError: it cannot be traced, or has an operator or an argument that the converter is not known to read.
    """
    with torch.no_grad(), quiet(), _in_one_sentence():
        traced = torch.export.export(network, tuple(inputs), strict=False)
        program: ExportedProgram = traced.run_decompositions(_rewrites())
    for node in program.graph.nodes:
        if node.op == "call_function":
            operators.check(node)
    return program


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Without the place in its own code that torch.export adds to errors."""
    try:
        with door("PyTorch does not trace the network", ExportError, "rewrite it without what depends on values"):
            yield
    except ExportError as error:
        raise ExportError(str(error).partition("\n")[0]) from error


# ---- what is rewritten ----------------------------------------------------------------------------------


def _rewrites() -> dict[Any, Callable[..., Any]]:
    """operator -> what stands for it; NotImplemented where the converter reads it as it is."""
    return {
        aten.add.Tensor: _add,
        aten.sub.Tensor: _sub,
        aten.rsub.Scalar: lambda x, y, alpha=1: torch.add(x * -alpha, y),
        aten.rsub.Tensor: lambda x, y, *, alpha=1: torch.add(x * -alpha, y),
        aten.reciprocal.default: lambda x: _one(x) / x,
        aten.pow.Scalar: _power_of,
        aten.gelu.default: _gelu,
        aten.rms_norm.default: _rms_norm,
        aten.scaled_dot_product_attention.default: _attention,
    }


def _add(x: Tensor, y: Any, *, alpha: float = 1) -> Any:
    """The converter drops alpha."""
    return NotImplemented if alpha == 1 else torch.add(x, alpha * y)


def _sub(x: Tensor, y: Any, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else torch.sub(x, alpha * y)


def _one(x: Tensor) -> Tensor:
    """The converter's own reciprocals add an epsilon; a quotient of two tensors has none."""
    return torch.ones((1,) * x.ndim, dtype=x.dtype)


def _power_of(base: float, x: Tensor) -> Tensor:
    """Core ML evaluates pow(2, x) as x squared."""
    if base <= 0:
        raise ExportError(f"the network raises {base:g} to a power, which has no logarithm: rewrite it")
    return torch.exp(x * math.log(base))


def _gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """The converter reads no keyword, and makes the exact form of both; written so, it finds the other one again."""
    if approximate == "none":
        return NotImplemented
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))
    return 0.5 * x * (1 + torch.tanh(inner))


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Zhang & Sennrich 2019. The converter's own form inflates eps by the largest square."""
    axes = tuple(range(-len(shape), 0))
    found = x * torch.rsqrt(torch.mean(x * x, axes, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    return found if weight is None else found * weight


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """A scale of its own keeps attention from being one operation, even where it is the usual one."""
    if dropout_p or is_causal or enable_gqa:
        raise ExportError("the network has attention with dropout, a causal mask or grouped queries: rewrite it")
    if scale is None:
        return NotImplemented
    usual = 1 / math.sqrt(q.shape[-1])
    scaled = q if math.isclose(scale, usual) else q * (scale / usual)
    return nn.functional.scaled_dot_product_attention(scaled, k, v, mask)
