"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from dtrain.config import Ema as Law

#: ema-pytorch's `update_after_step`: the warm-up law copies the weights while its counter is at most this, steps.
COPY_STEPS = 100
#: Of checkpoints: the first version whose averages followed the warm-up law as it is here.
MENDED_IN_VERSION = 2


def decay_at(law: Law, step: int) -> float | None:
    """The share of the old average that is kept at training step 1, 2, ...; None: no update at this step.

    `constant`: always `decay`, at every multiple of `every`, as DiT, SiT and REPA train (`every` = 1).

    `warmup`: min(1 - (1 + e)^(-2/3), decay) with e = step - 101 (ema-pytorch 0.3, inverse gamma 1, power 2/3), as the
    aerial-imagery article trains. It acts at the steps 1, 1 + every, 1 + 2 every, ..., for ema-pytorch tests its
    counter before it raises it. It copies the weights (0) while the counter is at most 100, and at one step more,
    where it counts itself as initialised: with every = 10, step 111 is the last copy and 121 the first average.
    """
    if law.law == "constant":
        return None if step % law.every else law.decay
    if (step - 1) % law.every:
        return None
    elapsed = step - COPY_STEPS - 1
    return 0.0 if elapsed <= law.every else min(1 - (1 + elapsed) ** (-2 / 3), law.decay)


def followed_old_law(law: Law, version: int) -> bool:
    """Whether the average of a checkpoint of this version was made at other steps than `decay_at` says.

    Before version 2 the warm-up law acted at the multiples of `every`, and first averaged at the first one above 101.
    """
    return law.law == "warmup" and version < MENDED_IN_VERSION


class Ema:
    """The averaged weights of a network, in float32. Where the network is sharded, so is the average.

    Args:
        network: as it is trained, after it was sharded.
    """

    def __init__(self, network: nn.Module, law: Law) -> None:
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
        """Take over whole tensors, of every name."""
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
