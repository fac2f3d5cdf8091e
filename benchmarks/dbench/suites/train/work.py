"""The arithmetic of a training step, counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dbench.core.flops import counting
from dtrain import models
from dtrain.train.run import Run

META = torch.device("meta")


@dataclass(frozen=True)
class Flops:
    """Operations in matrix products and convolutions, for one image; a multiplication and an addition are two.

    Forward and backward of what is trained, forward of the teachers that look at it.
    """

    network: int
    projectors: int  # what the objective adds to the network
    teachers: int

    @property
    def trained(self) -> int:
        return self.network + self.projectors

    @property
    def total(self) -> int:
        return self.trained + self.teachers


def count_flops(run: Run) -> Flops:
    """The operations of a run for each image of a batch; they grow in proportion to the batch.

    What is trained is counted by its shapes, on PyTorch's device `meta`, which computes nothing. Attention counts as
    its matrix products, without what a fused kernel computes a second time.
    """
    with META:
        network = models.build(run.recipe.model)
    alone = _trained(network, run)
    with META:
        wrapped = run.objective.wrap(network)
    return Flops(alone, _trained(wrapped, run) - alone, sum(map(_forward, getattr(run.objective, "teachers", []))))


def _trained(module: nn.Module, run: Run) -> int:
    x, labels = torch.empty(1, *run.dataset.shape, device=META), torch.zeros(1, dtype=torch.int64, device=META)
    times = [] if run.objective.prediction is None else [torch.zeros(1, device=META)]
    inputs = [x, *times, *([labels] if times and run.dataset.labels is not None else [])]
    with counting() as counter:
        torch.autograd.backward(_sum(module(*inputs)))
    return int(counter.get_total_flops())


def _sum(outputs: Any) -> Tensor:
    """Sum of a tensor, or of the network's output and the projections, so that every weight gets a gradient."""
    if isinstance(outputs, Tensor):
        return outputs.sum()
    return torch.stack([_sum(output) for output in outputs]).sum()


def _forward(teacher: Any) -> int:
    side, channels = teacher.image_size, teacher.channels
    with counting() as counter:
        teacher(torch.zeros(1, side, side, channels, dtype=torch.uint8))
    return int(counter.get_total_flops())
