"""PyTorch: eager, and compiled by inductor with frozen weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from dbench.core.inputs import Inputs
from dbench.suites.peers.libraries import Ingredients, Peer, Predict
from dbench.suites.peers.plain import as_float

#: Weights become constants, which inductor lays out for the processor's kernels.
OPTIONS: dict[str, Any] = {"freezing": True}
#: Above its usual limit of 8 PyTorch computes a further precision or batch without its compiler, and says nothing.
MOST_COMPILED = 100


def peers(ingredients: Ingredients) -> list[Peer]:
    """Eager and compiled, in float32 and cast to bfloat16 as a whole."""
    networks = both(ingredients.network)
    return [
        *(Peer(f"eager PyTorch, {precision}", precision, eager(network)) for precision, network in networks.items()),
        *(
            Peer(f"torch.compile, {precision}", precision, partial(compiled, network))
            for precision, network in networks.items()
        ),
    ]


def both(network: nn.Module) -> dict[str, nn.Module]:
    """The network in both precisions. `.to(bfloat16)` is faster than autocast, which casts weights at each call."""
    own: Any = copy.deepcopy(network)
    if any(isinstance(layer, nn.Conv2d) and layer.kernel_size != layer.stride for layer in own.modules()):
        own = own.to(memory_format=torch.channels_last)  # as PyTorch advises for convolutions
    return {"fp32": own, "bf16": copy.deepcopy(own).to(torch.bfloat16)}


def calls(network: Any, mode: Any = torch.inference_mode) -> Predict:
    """A call of a network on arrays. x gets the dtype of the weights; times stay in float32."""
    dtype = next(network.parameters()).dtype

    def predict(x: Any, *rest: Any) -> Any:
        with mode():
            return as_float(network(torch.from_numpy(x).to(dtype), *map(torch.from_numpy, rest)))

    return predict


def eager(network: nn.Module) -> Callable[[Inputs], Predict]:
    """Ready for any inputs."""
    return lambda _: calls(network)


def compiled(network: nn.Module, given: Inputs) -> Predict:
    """The network compiled for these shapes, which takes a minute."""
    predict = calls(torch.compile(copy.deepcopy(network), dynamic=False, options=OPTIONS), torch.no_grad)
    with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED):
        predict(*given)
    return predict
