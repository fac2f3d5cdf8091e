"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from dtrain.averages import decay_at
from dtrain.config import Ema


class Average:
    """The averaged weights of a network, in float32. If the network is sharded, the average is, too.

    Args:
        network: the network in training, after it was sharded.
    """

    def __init__(self, network: nn.Module, law: Ema) -> None:
        self.law = law
        self.online = network.state_dict(keep_vars=True)
        self.average = {name: tensor.detach().clone() for name, tensor in self.online.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the network after training step `step` (1 is the first)."""
        decay = decay_at(self.law, step)
        if decay is None:
            return
        weights = [name for name, tensor in self.average.items() if tensor.is_floating_point()]
        average, online = ([_local(side[name]) for name in weights] for side in (self.average, self.online))
        torch._foreach_lerp_(average, online, 1 - decay)
        for name in self.average.keys() - set(weights):  # counters
            self.average[name].copy_(self.online[name])

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load whole tensors under all names."""
        for name, tensor in self.average.items():
            whole = state[name].to(tensor.device)
            if isinstance(tensor, DTensor):
                whole = distribute_tensor(whole, tensor.device_mesh, tensor.placements)
            tensor.copy_(whole)

    def state_dict(self) -> dict[str, Tensor]:
        """Whole tensors; a sharded average is gathered, which all processes must take part in."""
        return {name: whole(tensor) for name, tensor in self.average.items()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is not sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    """This process's part; written to, it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
