"""One training run to be measured: the functions of `dtrain run`, step by step, their memory, and the work in a step.

`python -m dbench.suites.train.trial RECIPE.json FOLDER PRECISION COMPILE` is such a run on the processor, to be
weighed from outside.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from drun.console import Report, silent
from drun.errors import ConfigError
from drun.foreign import read_json
from dtrain import config, models
from dtrain import device as devices
from dtrain.config import Recipe
from dtrain.device import Placement
from dtrain.train.run import Run
from dtrain.train.start import start
from dtrain.train.step import read, read_ahead, update
from dtrain.train.workers import Workers

META = torch.device("meta")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Side of the matrices, and products in a row, that keep a device busy for some tens of milliseconds.
MATMUL_SIDE, MATMULS = {"cuda": 8192, "mps": 4096, "cpu": 1024}, 8
#: Standard deviation of the weights that would start at zero.
WAKING_STD = 0.02
#: The optimizer's state is there from the second step on.
WEIGHED_STEPS = 2


class Trial:
    """A training run that has begun.

    Args:
        recipe: with its data and the teachers' weights on this machine.
        folder: for what `dtrain run` keeps beside its checkpoints.

    Raises:
        As `dtrain.train.start.start` does.
    """

    def __init__(self, recipe: Recipe, folder: Path, placement: Placement, report: Report = silent) -> None:
        self.run = start(recipe, folder, Workers(placement), False, report)
        self.device = placement.device
        _wake(self.run.module)
        self._batches: Any = read_ahead(self.run)

    def step(self) -> None:
        """The next optimizer step; a GPU may still be at it when this returns."""
        update(self.run, next(self._batches))

    def whole_step(self) -> None:
        """The next optimizer step, from an idle device to an idle device."""
        self.step()
        synchronise(self.device)

    def read(self) -> None:
        """What is read for a step, beside the step before."""
        read(self.run, self.run.step)

    @property
    def loss(self) -> float:
        """Loss of the last step; NaN if fp16 has skipped all steps."""
        return float(self.run.pending[-1]["loss"]) if self.run.pending else math.nan

    def close(self) -> None:
        """Stop the thread that reads ahead."""
        self._batches.close()


@torch.no_grad()
def _wake(module: nn.Module) -> None:
    """Small random numbers for weights that start at zero.

    In a transformer with such weights most gradients are zero in the first steps, and a GPU multiplies zeros faster,
    for it draws less power.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and not parameter.any():
            parameter.normal_(std=WAKING_STD)


def check_divides(recipe: Recipe, placement: Placement) -> None:
    """Raises ConfigError if the batch cannot be divided as the recipe says, or if there are several processes."""
    workers = Workers(placement)
    workers.parts(recipe.train.batch_size, recipe.train.accumulate)
    if workers.count > 1:
        raise ConfigError(f"dbench train measures one process, got {workers.count}: start it without a launcher")


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


# ---- memory ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GpuPeak:
    allocated_bytes: int
    reserved_bytes: int  # by PyTorch's allocator: what `nvidia-smi` sees, but for CUDA's own


class GpuScale:
    """Weighs what is made after it, on a GPU that may hold other runs at rest. Other devices: no answer."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.held = self._empty() if device.type == "cuda" else (0, 0)

    def _empty(self) -> tuple[int, int]:
        """Give unused memory back, so that what is reserved is what is needed; allocated and reserved, bytes."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)

    def begin(self) -> None:
        """Forget the peaks until now."""
        if self.device.type == "cuda":
            self._empty()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> GpuPeak | None:
        """Since `begin`, without what others hold."""
        if self.device.type != "cuda":
            return None
        allocated, reserved = self.held
        return GpuPeak(
            torch.cuda.max_memory_allocated(self.device) - allocated,
            torch.cuda.max_memory_reserved(self.device) - reserved,
        )


# ---- work ------------------------------------------------------------------------------------------------


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
    with _counter() as counter:
        torch.autograd.backward(_sum(module(*inputs)))
    return int(counter.get_total_flops())


def _sum(outputs: Any) -> Tensor:
    """Sum of a tensor, or of the network's output and the projections, so that every weight gets a gradient."""
    if isinstance(outputs, Tensor):
        return outputs.sum()
    return torch.stack([_sum(output) for output in outputs]).sum()


def _forward(teacher: Any) -> int:
    side, channels = teacher.image_size, teacher.channels
    with _counter() as counter:
        teacher(torch.zeros(1, side, side, channels, dtype=torch.uint8))
    return int(counter.get_total_flops())


@contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


def _convolution_backward(
    grad_shape: Any, x_shape: Any, weight_shape: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, mask: list[bool], **rest: Any,
) -> int:  # fmt: skip
    """Operations of both gradients: that of the input and that of the weight each cost as much as the forward pass.

    PyTorch's own formula forgets that a grouped convolution joins only the channels of a group.
    """
    sides = (x_shape if transposed else grad_shape)[2:]
    return int(2 * x_shape[0] * math.prod(sides) * math.prod(weight_shape) * sum(mask[:2]))


class Matmuls:
    """Products of large square matrices of N(0, 1), whose rate is the most that a device does in a precision.

    Args:
        precision: fp32, bf16 or fp16; products of fp32 as `torch.get_float32_matmul_precision` says.
    """

    def __init__(self, device: torch.device, precision: str) -> None:
        self.side = MATMUL_SIDE[device.type]
        self.a, self.b = (torch.randn(self.side, self.side, device=device).to(DTYPES[precision]) for _ in "ab")
        self.out = torch.empty_like(self.a)
        self.flops = MATMULS * 2 * self.side**3

    def __call__(self) -> None:
        for _ in range(MATMULS):
            torch.mm(self.a, self.b, out=self.out)


# ---- a fresh process ------------------------------------------------------------------------------------


def main(recipe: str, folder: str, precision: str, compile: str) -> None:
    """Train WEIGHED_STEPS steps of a recipe that was written as JSON."""
    placement = devices.choose("cpu", precision, compile)
    trial = Trial(config.from_dict(read_json(Path(recipe))), Path(folder), placement)
    for _ in range(WEIGHED_STEPS):
        trial.step()
    trial.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
