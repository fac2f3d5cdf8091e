"""SiT and DiT with channels first compute what the ordinary ones do, from the same checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import small

from dexport.deploy import deployable
from dexport.deploy.ane import for_neural_engine
from dexport.deploy.ane.transformer import ChannelsFirst, Pointwise
from dexport.deploy.split import split
from drun.errors import ExportError


def stages(network: Any) -> tuple[Any, Any, Any]:
    """The ordinary network, its conditioning, and the rest as the Neural Engine computes it."""
    conditioning, rest, _ = split(deployable(network))
    return network, conditioning, for_neural_engine(rest)


@pytest.mark.parametrize("name", ["SiT", "DiT"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_same_function(name: str, qk_norm: bool) -> None:
    network, conditioning, channels_first = stages(small(name, qk_norm=qk_norm).eval())
    assert isinstance(channels_first, ChannelsFirst)
    torch.manual_seed(0)
    x = torch.randn(2, *network.state_shape(8))
    t, y = torch.tensor([0.3, 0.8]), torch.tensor([1, 2])
    with torch.no_grad():
        expected = network(x, t, y)
        found = channels_first(x, conditioning(t, y))
    assert torch.linalg.norm(found - expected) < 1e-5 * torch.linalg.norm(expected)


def test_its_layers_are_pointwise_and_its_rank_is_at_most_four() -> None:
    _, conditioning, channels_first = stages(small("SiT").eval())
    assert not any(isinstance(module, torch.nn.Linear) for module in channels_first.modules())
    assert any(isinstance(module, Pointwise) for module in channels_first.modules())
    c = torch.zeros(1, sum(projection[1].out_features for projection in conditioning.projections))
    program = torch.export.export(channels_first, (torch.zeros(1, 4, 8, 8), c))
    assert max(node.meta["val"].ndim for node in program.graph.nodes if hasattr(node.meta.get("val"), "ndim")) <= 4


def test_a_u_net_is_as_it_was() -> None:
    network = small("TwoResUNet").eval()
    conditioning, rest, _ = split(deployable(network))
    assert for_neural_engine(rest) is rest
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([7.0])
    with torch.no_grad():
        assert torch.allclose(rest(x, conditioning(t)), network(x, t), atol=1e-5)


def test_a_family_that_nobody_has_written_so_is_refused() -> None:
    class Other(torch.nn.Module):
        network = torch.nn.Identity()

    with pytest.raises(ExportError, match="nobody has written Identity for the Neural Engine: use --unit gpu"):
        for_neural_engine(Other())  # type: ignore[arg-type]
