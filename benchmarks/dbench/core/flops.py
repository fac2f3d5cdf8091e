"""Counts the arithmetic of networks: operations in matrix products and convolutions, two for a multiply-add."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count what is computed within. Attention counts as its matrix products, without what a fused kernel repeats."""
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


def forward_flops(network: nn.Module, *inputs: Any) -> int:
    """The operations of one call."""
    with torch.no_grad(), counting() as counter:
        network(*inputs)
    return int(counter.get_total_flops())


def _convolution_backward(
    grad_shape: Any, x_shape: Any, weight_shape: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, mask: list[bool], **rest: Any,
) -> int:  # fmt: skip
    """The operations of both gradients: those of the input and of the weight each cost as much as the forward pass.

    PyTorch's own formula forgets that a grouped convolution joins only the channels of a group.
    """
    sides = (x_shape if transposed else grad_shape)[2:]
    return int(2 * x_shape[0] * math.prod(sides) * math.prod(weight_shape) * sum(mask[:2]))
