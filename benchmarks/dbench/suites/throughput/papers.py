"""The papers' loop around a PyTorch network, in the place of a backend."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dbench.core.matmuls import DTYPES
from dbench.suites.throughput.loops import PaperLoop, guided
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable
from drun.errors import BackendUnavailable, OutOfMemory, memory_for, reason

#: Of a network's weights: tf32 is how products of float32 are computed.
WEIGHTS = DTYPES | {"tf32": torch.float32}


@dataclass(frozen=True)
class Papers:
    """A network on a device that carries batches as `Backend.walk` does.

    network: (x, t, labels) -> output, float32.
    """

    loop: PaperLoop
    network: Callable[..., Tensor]
    device: torch.device
    precision: str
    own_noise: bool = True  # drawn by PyTorch on the device, as the papers' code does; False: that of `walk`

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """Carry a batch through the times of the table. Nobody observes it, and the coefficients are the loop's own.

        Raises:
            OutOfMemory: of the device. BackendUnavailable: PyTorch fails otherwise, such as its compiler.
        """
        with torch.no_grad(), computing_in(self.precision), enough_memory(self.device), _working():
            start = torch.from_numpy(x).to(self.device)
            classes = None if labels is None else torch.from_numpy(labels).to(self.device)
            weights = {row.t: row.w for row in table.rows}
            denoise = guided(self.network, classes, guidance.null_label, guidance.channels, weights)

            def draw() -> Tensor:
                return torch.randn_like(start) if self.own_noise else torch.from_numpy(noise()).to(self.device)

            final = self.loop.run(denoise, start, [row.t for row in table.rows], draw)
            return np.asarray(final.float().cpu())


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """Raises OutOfMemory in the place of PyTorch's error, and gives back what is not needed any more."""
    try:
        with memory_for(f"drawing on {device.type}", "lower --batch, or name fewer --precision"):
            yield
    except OutOfMemory:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise


@contextmanager
def _working() -> Iterator[None]:
    """Raises BackendUnavailable in the place of PyTorch's errors, but for those about memory."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise BackendUnavailable(f"PyTorch failed: {reason(error)}") from error


class Cast(nn.Module):
    """A network whose weights have another dtype as a whole, the fastest that people do without a library.

    x enters in that dtype, times stay in float32, and the output leaves in float32.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        out: Tensor = self.network(x.to(self.dtype), *rest)
        return out.float()


def cast(network: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A copy of a network on the device, with weights of `dtype`."""
    return Cast(network, dtype).to(device).requires_grad_(False)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Products of float32 in tf32, or not, within it."""
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions
