"""The inputs by which torch.export traces a network, the sides of them that may change, and its silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from drun.bundle.artifact import Tensor
from drun.console import log_level


def example_inputs(inputs: Sequence[Tensor], batch: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Inputs of zeros, in the order of the network's `forward`."""
    low, high = batch
    # torch.export takes an example batch of 1 for a constant.
    size = low if low == high else max(2, low)
    return tuple(_zeros(tensor, size) for tensor in inputs)


def _zeros(tensor: Tensor, size: int) -> torch.Tensor:
    sides = [size if side == "N" else int(side) for side in tensor.shape]
    return torch.zeros(sides, dtype=getattr(torch, tensor.dtype))


def dynamic_shapes(inputs: Sequence[Tensor], batch: tuple[int, int]) -> tuple[dict[int, Any], ...] | None:
    """The bounds of every input's batch; None if it is static."""
    low, high = batch
    return None if low == high else tuple({0: torch.export.Dim("batch", min=low, max=high)} for _ in inputs)


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter warns of its own internals and of torchvision, which nothing here uses."""
    with log_level("torch.onnx", logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
