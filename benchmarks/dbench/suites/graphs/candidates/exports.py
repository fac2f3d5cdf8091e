"""The same network by PyTorch's exporter, at other opsets and from other modules."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from dbench.suites.graphs.candidates import Attempt
from dbench.suites.graphs.source import Original
from drun.errors import ExportError

#: The layers of the transformers that are computed for each token.
LAYERS = ("qkv", "proj", "fc1", "fc2")


def default_again(original: Original) -> Attempt:
    """The default once more, which shows how large the noise is."""
    return Attempt(original.default())


def raw_opset_20(original: Original) -> Attempt:
    """The trained network at opset 20: scaled_dot_product_attention and norms as the exporter splits them."""
    return Attempt(original.export("raw-20", original.part.network, 20))


def raw_opset_23(original: Original) -> Attempt:
    """The trained network at opset 23: Attention and GroupNormalization as one operator each."""
    return Attempt(original.export("raw-23", original.part.network, 23))


def parts_opset_23(original: Original) -> Attempt:
    """The default's parts at opset 23."""
    return Attempt(original.export("parts-23", original.part.deployable, 23))


def gemm_with_bias(original: Original) -> Attempt:
    """The layers of attention and MLP on flattened tokens: Gemm, which adds the bias, for MatMul and Add."""
    network = copy.deepcopy(original.part.deployable)
    if not _flatten_tokens(network):
        raise ExportError("the network has no layers of tokens")
    return Attempt(original.export("gemm", network, 20))


class _FlatLinear(nn.Module):
    """(N, tokens, in) -> (N, tokens, out) by one product of two matrices."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = self.linear(x.flatten(0, 1))
        return flat.reshape(-1, x.shape[1], flat.shape[1])


def _flatten_tokens(network: nn.Module) -> bool:
    """Rewrite the layers in place; returns whether there are any."""
    found = [(module, name) for module in network.modules() for name in LAYERS if _is_linear(module, name)]
    for module, name in found:
        setattr(module, name, _FlatLinear(getattr(module, name)))
    return bool(found)


def _is_linear(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), nn.Linear)
