import pytest
import torch
from torch import nn

from dexport.deploy.unet import GroupedNorm, ImageNorm, fold_downsample
from dtrain.models.unet.blocks import Downsample


def test_the_folded_downsample_is_exact() -> None:
    torch.manual_seed(0)
    down = Downsample(3, 5).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    assert torch.allclose(fold_downsample(down).double()(x), down(x), atol=1e-6)
    down32 = Downsample(3, 5)
    assert (fold_downsample(down32)(x.float()) - down32(x.float())).abs().max() < 1e-5


def group_norm(num_groups: int, num_channels: int) -> nn.GroupNorm:
    norm = nn.GroupNorm(num_groups, num_channels).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_image_norm_is_group_norm_with_one_group() -> None:
    norm = group_norm(1, 6)
    x = torch.randn(3, 6, 8, 8, dtype=torch.float64) * 4 + 2
    assert torch.allclose(ImageNorm(norm)(x), norm(x), atol=1e-12)


@pytest.mark.parametrize("num_groups", [1, 2, 3, 6])
def test_grouped_norm_is_group_norm(num_groups: int) -> None:
    norm = group_norm(num_groups, 6)
    x = torch.randn(3, 6, 8, 5, dtype=torch.float64) * 4 + 2
    assert torch.allclose(GroupedNorm(norm)(x), norm(x), atol=1e-12)
