"""A denoiser in two: what depends on time and label alone, and the rest, which takes that as its second input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drun.errors import ConfigError
from dtrain.models import Network, Projection


class ConditioningStage(nn.Module):
    """The first part: (t[, y]) -> c (N, width), the outputs of all projections of a network, side by side."""

    def __init__(self, network: Network, projections: list[Projection]) -> None:
        super().__init__()
        self.network, self.projections = network, nn.ModuleList(projections)

    def forward(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        condition = self.network.condition(t, y)
        return torch.cat([projection(condition) for projection in self.projections], dim=1)


class Columns(nn.Module):
    """Stands in for a projection: its columns of c, which were computed before."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, c: Tensor) -> Tensor:
        """(N, width) -> (N, stop - start)."""
        return c[:, self.start : self.stop]


class DenoiserStage(nn.Module):
    """The second part: (x, c) -> the network's output."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.network.denoise(x, c)


def split(network: Network) -> tuple[ConditioningStage, DenoiserStage, int]:
    """Both parts, and the width of c.

    network: a network in eval mode. It belongs to the parts from now on, as they share its weights: its projections
        are taken out of it.

    Raises:
        ConfigError: it has no projections.
    """
    found = [(parent, name, child) for parent in network.modules() for name, child in parent.named_children()]
    projections = [(parent, name, child) for parent, name, child in found if isinstance(child, Projection)]
    if not projections:
        raise ConfigError(
            f"--split got a {type(network).__name__}, which computes nothing outside its loop: leave --split out"
        )
    width = 0
    for parent, name, projection in projections:
        columns = _columns(projection)
        setattr(parent, name, Columns(width, width + columns))
        width += columns
    return ConditioningStage(network, [projection for _, _, projection in projections]), DenoiserStage(network), width


def _columns(projection: Projection) -> int:
    last = projection[-1]
    assert isinstance(last, nn.Linear)
    return last.out_features
