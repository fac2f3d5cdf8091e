"""The network of which every candidate makes a graph, and the calls by which all are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dbench.core.inputs import Inputs
from dbench.suites.graphs.exporting import export_at
from dexport import targets
from dexport.targets import Part
from drun.files import atomic_folder
from dtrain.published import Denoiser

DEFAULT_TARGET = "onnx"

Array = NDArray[Any]


@dataclass(frozen=True)
class EagerCall:
    """The inputs of a call, and what eager PyTorch computes of them, (N, C or 2 C, H, W) float32."""

    inputs: Inputs
    out: Array


@dataclass(frozen=True)
class Original:
    """A network, and what a candidate may need to make a graph of it for one batch size."""

    part: Part  # today's default is made of it
    denoiser: Denoiser  # its network is the part's
    batch: int
    calibration: list[dict[str, Array]]  # inputs by name, states of real trajectories
    folder: Path  # shared by all batch sizes

    def default(self) -> Path:
        """The graph that `dexport onnx` makes today."""
        return self.once("default", lambda folder: targets.load(DEFAULT_TARGET).export(self.part, folder))

    def export(self, name: str, network: nn.Module, opset: int) -> Path:
        """The graph of a network as PyTorch's exporter makes it, of any batch."""
        return self.once(name, lambda folder: export_at(self.part, network, opset, folder / f"{self.part.stem}.onnx"))

    def once(self, name: str, write: Callable[[Path], Any]) -> Path:
        """The graph that `write` puts into an empty folder, made at the first call of this name."""
        final = self.folder / name
        if not final.exists():
            with atomic_folder(final) as folder:
                write(folder)
        return final / f"{self.part.stem}.onnx"


def named(part: Part, inputs: Inputs) -> dict[str, Array]:
    return {tensor.name: np.ascontiguousarray(array) for tensor, array in zip(part.inputs, inputs, strict=True)}
