"""A PyTorch network that `drun.run.sampling.Sampling` can call: the reference for every backend."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from drun.diffusion import loop
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import NOBODY, Observer
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable


class EagerNetwork:
    """A denoiser in eager PyTorch, called as `dtrain.models.Network` says.

    Args:
        network: a network in eval mode; it is moved to `device`.
        device: the device that computes; None: the device of the weights.
    """

    def __init__(self, network: nn.Module, device: torch.device | None = None) -> None:
        self.network = network if device is None else network.to(device)
        weights = next(network.parameters(), None)
        self.device = device or (torch.device("cpu") if weights is None else weights.device)

    @torch.no_grad()
    def predict(self, x: Tensor, t: float, labels: Tensor | None) -> Tensor:
        """x: (N, C, H, W) float32, labels: (N,) int64 or None, both on the device -> (N, C or 2 C, H, W)."""
        times = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
        output: Tensor = self.network(x, times) if labels is None else self.network(x, times, labels)
        return output

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer = NOBODY,
    ) -> State:
        """As `drun.diffusion.loop.walk`, with this network and all arrays on its device.

        Raises:
            NotFiniteError: a state that is not finite.
        """
        return loop.walk(self.predict, table, x, labels, guidance, noise, observer, self.put)

    def put(self, array: NDArray[Any]) -> Tensor:
        """Move an array of the host to the network's device; on the CPU it shares memory."""
        return torch.from_numpy(array).to(self.device)
