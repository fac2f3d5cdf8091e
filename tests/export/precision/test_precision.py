"""Networks in fp16 and bf16: islands are float32, the rest is not, and the numbers are those of the rounded weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import small
from torch import Tensor, nn

from dexport.deploy import deployable, deployable_decoder
from dexport.deploy.split import split
from dexport.precision import DTYPES, lowered, places, summary
from dexport.precision.layers import Island, Low
from dtrain.models import vae

MODELS = ("OneResUNet", "TwoResUNet", "AttentionUNet", "SiT", "DiT", "decoder")
T_INDEX = torch.tensor([10.0, 999.0])
#: Modules that stay float32, by the names in the trained network.
WIDE = {
    "UNet": {"time_mlp", "final_conv", "mid_block1.block.0", "mid_block1.block.3"},
    "SiT": {"t_embedder", "y_embedder", "final_layer", "blocks.1.norm1", "blocks.1.attn.attend.softmax"},
    "decoder": {"decoder.conv_out", "decoder.conv_norm_out", "decoder.mid_block.attentions.0.attend.softmax"},
}


@pytest.fixture(params=MODELS)
def network(request: pytest.FixtureRequest, tiny_vae: Path) -> nn.Module:
    """Ready for export, with weights that are nowhere zero."""
    if request.param == "decoder":
        return deployable_decoder(vae.Decoder(vae.load(str(tiny_vae))))
    changes = {"qk_norm": True} if request.param == "DiT" else {}
    return deployable(small(request.param, **changes))


def inputs_of(network: nn.Module) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    if isinstance(network, vae.Decoder):
        return (torch.randn(2, 4, 4, 4, generator=generator),)
    is_transformer = hasattr(network, "blocks")
    x = torch.randn(2, 4 if is_transformer else 3, 8, 8, generator=generator)
    t = torch.tensor([0.3, 0.9]) if is_transformer else torch.tensor([10.0, 999.0])
    return (x, t, torch.tensor([1, 10])) if is_transformer else (x, t)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@torch.no_grad()
def test_it_computes_what_the_rounded_weights_compute(network: nn.Module, precision: str) -> None:
    inputs, dtype = inputs_of(network), DTYPES[precision]
    got = lowered(network, precision)(*inputs)
    assert got.dtype == torch.float32
    for name, parameter in network.named_parameters():
        if not stays_wide(network, name):
            parameter.copy_(parameter.to(dtype).float())
    expected = network(*inputs)
    error = float((got - expected).norm() / expected.norm())
    # About one rounding to the nearest for each of some dozens of operators in a row.
    assert 0 < error < 6 * torch.finfo(dtype).eps, error


def stays_wide(network: nn.Module, parameter: str) -> bool:
    """Whether a parameter, by its name in the deployable network, is one of an island's, as the design says."""
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    words = ("time_mlp", "t_embedder", "final_conv", "final_layer", "conv_out", "pos_embed")
    owner = network.get_submodule(parameter.rpartition(".")[0])
    return isinstance(owner, kinds) or "Norm" in type(owner).__name__ or any(word in parameter for word in words)


@torch.no_grad()
def test_islands_are_float32_and_other_layers_are_not(network: nn.Module) -> None:
    low, seen = lowered(network, "bf16"), {"islands": 0, "low": 0}

    def is_wide(module: nn.Module, inputs: Any, result: Tensor) -> None:
        seen["islands"] += 1
        floats = [*inputs, *module.parameters(), result]
        assert {value.dtype for value in floats if value.is_floating_point()} == {torch.float32}

    def is_low(module: nn.Module, inputs: Any, result: Tensor) -> None:
        seen["low"] += 1
        assert {value.dtype for value in (*inputs, *module.parameters(), result)} == {torch.bfloat16}

    for module in low.modules():
        if isinstance(module, Island):
            module.module.register_forward_hook(is_wide)
        elif isinstance(module, Low):
            module.layer.register_forward_hook(is_low)
    low(*inputs_of(network))
    assert min(seen.values()) >= 3
    layers = [module for module in low.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert {layer.weight.dtype for layer in layers} == {torch.float32, torch.bfloat16}


def test_the_islands_are_those_of_the_design(network: nn.Module) -> None:
    family = "decoder" if isinstance(network, vae.Decoder) else "SiT" if hasattr(network, "blocks") else "UNet"
    low = lowered(network, "fp16")
    assert WIDE[family] <= {*places(low).islands}
    assert not {"x_embedder.proj", "init_conv", "decoder.conv_in", "blocks.0.mlp.fc1"} & {*places(low).islands}
    said = summary(low, places(low).islands)
    assert 3 < len(said) < 20
    assert all(not any(part.isdigit() for part in name.split(".")[:-1]) for name in said)
    assert summary(low, []) == []


def test_the_float32_network_is_left_alone_and_shares_its_islands(network: nn.Module) -> None:
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    low = lowered(network, "fp16")
    assert all(torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    shared = {id(parameter) for parameter in network.parameters()} & {id(parameter) for parameter in low.parameters()}
    assert len(shared) == sum(parameter.dtype == torch.float32 for parameter in low.parameters()) > 0


def test_fp32_is_the_network_itself() -> None:
    network = deployable(small("SiT"))
    assert lowered(network, "fp32") is network


@torch.no_grad()
def test_times_are_told_apart() -> None:
    """bf16 holds no integer above 256 exactly: 998 and 999 would be 1000."""
    network = deployable(small("TwoResUNet"))
    low, x = lowered(network, "bf16"), torch.randn(1, 3, 8, 8)
    embedding = low.time_mlp(torch.tensor([998.0, 999.0]))
    assert torch.equal(embedding, network.time_mlp(torch.tensor([998.0, 999.0])))
    assert not torch.equal(low(x, torch.tensor([998.0])), low(x, torch.tensor([999.0])))


class Plain(nn.Module):
    """A family that no table knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)
        self.shift = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x) + self.shift).relu())
        return out


@torch.no_grad()
def test_an_unknown_family_needs_no_row() -> None:
    torch.manual_seed(0)
    network, x = Plain().requires_grad_(False), torch.randn(5, 6)
    got = lowered(network, "bf16")(x)
    assert got.dtype == torch.float32

    def rounded(values: Any) -> Any:
        return torch.as_tensor(np.asarray(values)).to(torch.bfloat16).double().numpy()

    # Every step in float64, rounded once, as the modules promise.
    weight = {name: value.double().numpy() for name, value in network.named_parameters()}
    hidden = rounded(rounded(x) @ rounded(weight["first.weight"]).T + rounded(weight["first.bias"]))
    hidden = rounded(hidden + 1)
    centred = hidden - hidden.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * weight["norm.weight"]
    normed = rounded(normed + weight["norm.bias"]).clip(0)
    expected = rounded(normed @ rounded(weight["last.weight"]).T + rounded(weight["last.bias"]))
    assert np.mean(got.numpy() == expected) > 0.9  # float32 and float64 may round to different sides
    assert np.abs(got.numpy() - expected).max() <= 2**-8 * np.abs(expected).max()


@torch.no_grad()
def test_a_split_network_is_as_close() -> None:
    """Its conditioning stage stays float32, so that the other one reads a condition that is not rounded."""
    for name, inputs in (("SiT", (torch.tensor([0.3, 0.9]), torch.tensor([1, 10]))), ("TwoResUNet", (T_INDEX,))):
        whole = deployable(small(name))
        x = inputs_of(whole)[0]
        expected = whole(x, *inputs)
        first, second, _ = split(deployable(small(name)))
        got = lowered(second, "bf16")(x, first(*inputs))
        assert 0 < float((got - expected).norm() / expected.norm()) < 6 * torch.finfo(torch.bfloat16).eps
