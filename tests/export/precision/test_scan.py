"""What fp16 cannot hold is found before the export, by its module and its time."""

import pytest
import torch
from networks import small
from torch import Tensor, nn

from dexport.deploy import deployable
from dexport.precision import check_range, lowered
from dexport.precision.scan import LARGEST
from drun.errors import ExportError


class Timed(nn.Module):
    """Its layer `wide` computes x t gain."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.first, self.wide = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.first.weight)
        nn.init.eye_(self.wide.weight).mul_(gain)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.wide(self.first(x) * t[:, None]) / 1e6
        return out


def calls(*times: float) -> list[tuple[Tensor, ...]]:
    return [(torch.ones(2, 4), torch.full((2,), t)) for t in times]


@torch.no_grad()
def test_an_overflow_names_module_value_and_time() -> None:
    network = Timed(1024).requires_grad_(False)
    check_range(network, calls(1, 60))
    message = r"^'wide' computes 81,920 at t = 80, fp16 holds at most 65,504: use --precision bf16"
    with pytest.raises(ExportError, match=message):
        check_range(network, calls(1, 80, 90))


def test_a_weight_that_overflows_is_named() -> None:
    network = deployable(small("TwoResUNet"))
    with torch.no_grad():
        network.mid_block1.block[1].weight[0, 0] = -70000.0
    with pytest.raises(ExportError, match=r"the weight 'mid_block1\.block\.1\.weight' got 70,000, fp16 holds at most"):
        check_range(network, [])
    with torch.no_grad():
        network.mid_block1.block[1].weight[0, 0] = LARGEST
        network.final_conv.weight[0, 0] = 1e6  # an island's
    check_range(network, [])


@torch.no_grad()
def test_islands_and_the_residual_stream_may_hold_more() -> None:
    network = deployable(small("SiT"))
    states = [(torch.randn(2, 4, 8, 8), torch.full((2,), 0.5), torch.tensor([1, 2]))]
    network.pos_embed.add_(1e5)  # of the residual stream, in float32 as in the lowered network
    check_range(network, states)
    assert torch.isfinite(lowered(network, "fp16")(*states[0])).all()
    network.blocks[1].mlp.fc1.bias[3] = 60000.0
    network.blocks[1].mlp.fc2.weight[:, 3] = 2.0
    with pytest.raises(ExportError, match=r"'blocks\.1\.mlp\.fc2' computes 1[12]\d,\d{3} at t = 0\.5"):
        check_range(network, states)


@torch.no_grad()
def test_what_is_too_small_is_no_error() -> None:
    network = deployable(small("TwoResUNet"))
    network.mid_block1.block[1].weight.mul_(1e-9)
    check_range(network, [(torch.randn(1, 3, 8, 8), torch.tensor([9.0]))])


@torch.no_grad()
def test_infinity_is_found() -> None:
    network = deployable(small("TwoResUNet"))
    network.mid_block1.block[1].weight[0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"the weight 'mid_block1\.block\.1\.weight' got nan"):
        check_range(network, [])


@torch.no_grad()
def test_the_first_module_that_computes_nan_is_named_though_later_ones_hide_it() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            spoiled = self.first(x) * torch.tensor(float("nan"))
            return self.second(torch.nan_to_num(spoiled))

    with pytest.raises(ExportError, match=r"^'' computes nan at t = 1, fp16 holds at most"):
        check_range(Hidden(), calls(1))
