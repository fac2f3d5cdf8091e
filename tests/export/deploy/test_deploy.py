from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dexport.deploy import deployable, deployable_decoder
from dtrain import models
from dtrain.models import vae
from dtrain.models.transformer.layers import Attention
from dtrain.models.unet.blocks import Downsample

NETWORKS = [
    *((name, {}) for name, model in sorted(models.available().items()) if getattr(model, "predicts", "") == "image"),
    ("SiT", {"qk_norm": True}),
    ("SiT", {"num_classes": 0}),
]


@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_the_deployed_network_computes_the_same_and_leaves_the_original_alone(
    build_small: Any, name: str, changes: dict[str, Any]
) -> None:
    network = build_small(name, **changes)
    side = getattr(network, "input_size", 16)
    inputs = [torch.randn(2, network.config["channels"], side, side), torch.tensor([5.0, 900.0])]
    if getattr(network, "y_embedder", None) is not None:
        inputs.append(torch.tensor([0, network.null_label]))
    keys = list(network.state_dict())
    deployed = deployable(network)
    with torch.no_grad():
        expected = network(*inputs)
        assert torch.allclose(deployed(*inputs), expected, atol=1e-5)
    assert expected.abs().mean() > 0.01
    assert list(network.state_dict()) == keys
    assert any(parameter.requires_grad for parameter in network.parameters())
    assert not {type(module) for module in deployed.modules()} & {Downsample, nn.GroupNorm, Attention}
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


def test_the_weights_of_a_large_layer_are_in_memory_once(build_small: Any) -> None:
    network = build_small("SiT")
    places = {parameter.data_ptr() for parameter in network.parameters()}
    assert {parameter.data_ptr() for parameter in deployable(network).parameters()} == places


def test_a_network_of_lower_precision_is_deployed_in_float32(build_small: Any) -> None:
    network = build_small("SiT").bfloat16()
    deployed = deployable(network)
    assert {parameter.dtype for parameter in deployed.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("attention_in_the_middle", [True, False])
def test_the_deployed_decoder_computes_the_same(tiny_vae: Path, attention_in_the_middle: bool) -> None:
    decoder = vae.Decoder(vae.load(str(tiny_vae)))
    if not attention_in_the_middle:
        decoder.decoder.mid_block.attentions[0] = None
    z = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    deployed = deployable_decoder(decoder)
    assert deployed.decoder.conv_in.weight.data_ptr() == decoder.decoder.conv_in.weight.data_ptr()
    with torch.no_grad():
        expected = decoder(z)
        assert torch.allclose(deployed(z), expected, atol=1e-5)
    assert expected.std() > 0.1
    assert nn.GroupNorm in {type(module) for module in decoder.modules()}
    assert not {"GroupNorm", "Attention"} & {type(module).__name__ for module in deployed.modules()}
