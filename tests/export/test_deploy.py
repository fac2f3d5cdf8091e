import pytest
import torch
from torch import nn

from dexport.deploy import ImageNorm, deployable, fold_downsample
from dtrain import models
from dtrain.models.unet import Downsample


def test_the_folded_downsample_is_exact() -> None:
    torch.manual_seed(0)
    down = Downsample(3, 5).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    assert torch.allclose(fold_downsample(down).double()(x), down(x), atol=1e-6)
    down32 = Downsample(3, 5)
    assert (fold_downsample(down32)(x.float()) - down32(x.float())).abs().max() < 1e-5


def test_image_norm_is_group_norm_with_one_group() -> None:
    norm = nn.GroupNorm(1, 6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 8, 8, dtype=torch.float64) * 4 + 2
    assert torch.allclose(ImageNorm(norm)(x), norm(x), atol=1e-12)


@pytest.mark.parametrize("name", sorted(models.available()))
def test_the_deployed_network_computes_the_same_and_leaves_the_original_alone(name: str) -> None:
    torch.manual_seed(0)
    network = models.build({"name": name, "dim": 8, "dim_mults": [1, 2], "channels": 3}).eval()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([5.0, 900.0])
    keys = list(network.state_dict())
    deployed = deployable(network)
    with torch.no_grad():
        assert torch.allclose(deployed(x, t), network(x, t), atol=1e-5)
    assert list(network.state_dict()) == keys
    kinds = {type(module) for module in deployed.modules()}
    assert not kinds & {Downsample, nn.GroupNorm}
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
