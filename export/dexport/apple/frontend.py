"""A network as a torch.export program that Core ML's converter reads rightly.

The converter silently computes something else for some operators and keywords. They are rewritten here, and every
keyword of every operator is known to be read, or refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from dexport.tracing import quiet
from drun.errors import ExportError

aten: Any = torch.ops.aten

#: Keywords that say where and how a tensor lies, which Core ML decides itself.
PLACES = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "copy"})
#: operator -> keywords that the converter reads
KEYWORDS: Mapping[str, frozenset[str]] = {
    "arange": frozenset({"dtype"}), "_to_copy": frozenset({"dtype"}), "full": frozenset({"dtype"}),
    "full_like": frozenset({"dtype"}), "ones": frozenset({"dtype"}), "zeros": frozenset({"dtype"}),
    "ones_like": frozenset({"dtype"}), "zeros_like": frozenset({"dtype"}), "sum": frozenset({"dtype"}),
    "mean": frozenset({"dtype"}), "scalar_tensor": frozenset({"dtype"}),
    "_assert_tensor_metadata": frozenset({"dtype"}),
}  # fmt: skip
#: Operators that the converter gets wrong, or that the device does, for which there is no rewriting here.
REFUSED: Mapping[str, str] = {
    "floor_divide": "the converter loses its dtype",
    "cumsum": "the converter reads its options wrongly",
    "tril": "the converter makes NaN of what is infinite",
    "triu": "the converter makes NaN of what is infinite",
}


def exported(network: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Trace a network for inputs of fixed shapes.

    Args:
        network: in float32 and eval mode. inputs: in the order of its `forward`.

    Raises:
        ExportError: it has an operator or a keyword that the converter is not known to read.
    """
    with torch.no_grad(), quiet():
        traced = torch.export.export(network, tuple(inputs), strict=False)
        program: ExportedProgram = traced.run_decompositions(_rewrites())
    for node in program.graph.nodes:
        if node.op == "call_function":
            _check(node)
    return program


def _check(node: Any) -> None:
    name = getattr(node.target, "__name__", str(node.target)).partition(".")[0]
    unknown = sorted({*node.kwargs} - PLACES - KEYWORDS.get(name, frozenset()))
    if unknown:
        raise ExportError(f"the converter to Core ML is not known to read '{unknown[0]}' of {name}: rewrite it without")
    if name == "einsum" and "..." in node.args[0]:
        raise ExportError("the network has einsum with an ellipsis, which the converter reads wrongly: name the axes")
    if name in REFUSED:
        raise ExportError(f"the network has the operator {name}: {REFUSED[name]}, so rewrite it")


# ---- what is rewritten ----------------------------------------------------------------------------------


def _rewrites() -> dict[Any, Callable[..., Any]]:
    """operator -> what stands for it; NotImplemented where the converter reads it as it is."""
    return {
        aten.add.Tensor: _add,
        aten.sub.Tensor: _sub,
        aten.rsub.Scalar: lambda x, y, alpha=1: torch.add(x * -alpha, y),
        aten.reciprocal.default: lambda x: torch.pow(x, -1),
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


def _power_of(base: float, x: Tensor) -> Tensor:
    """Core ML evaluates pow(2, x) as x squared."""
    if base <= 0:
        raise ExportError(f"the network raises {base:g} to a power, which has no logarithm: rewrite it")
    return torch.exp(x * math.log(base))


def _gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """The converter reads no keyword, and makes the exact form of both."""
    if approximate == "none":
        return NotImplemented
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
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
