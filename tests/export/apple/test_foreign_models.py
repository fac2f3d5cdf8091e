"""Networks that are not ours, converted on the spot and computed by the executor."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from coreml_packages import executor_of
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
        self.branch = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, groups=4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.leaky_relu(x + self.branch(x), 0.1)
        return out


def resnet() -> tuple[nn.Module, list[Tensor]]:
    layers = [nn.Conv2d(3, 16, 7, stride=2, padding=3), nn.BatchNorm2d(16), nn.Hardtanh(), nn.MaxPool2d(3, 2, 1)]
    body = [
        Residual(16),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
        nn.InstanceNorm2d(8, affine=True),
        nn.ELU(),
    ]
    network = nn.Sequential(*layers, *body, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, 10), nn.LogSoftmax(1))
    return network, [torch.randn(2, 3, 32, 32)]


def u_net() -> tuple[nn.Module, list[Tensor]]:
    from diffusers import UNet2DModel

    class Sample(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = {
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            }
            self.network = UNet2DModel(
                16,
                3,
                3,
                block_out_channels=(16, 32),
                layers_per_block=1,
                norm_num_groups=8,
                attention_head_dim=8,
                **blocks,
            )

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.network(x, t, return_dict=False)[0]
            return out

    return Sample(), [torch.randn(1, 3, 16, 16), torch.tensor([37.0])]


def vit() -> tuple[nn.Module, list[Tensor]]:
    from transformers import ViTConfig, ViTModel

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
            self.network = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.network(x).last_hidden_state
            return out

    return Tokens(), [torch.randn(2, 3, 32, 32)]


def psnr_db(found: Tensor, expected: Tensor) -> float:
    """The peak is the largest number."""
    error = float((found - expected).square().mean().sqrt())
    return 20 * math.log10(float(expected.abs().max()) / max(error, 1e-12))


@pytest.mark.parametrize("make", [resnet, pytest.param(u_net, marks=pytest.mark.slow), vit])
@pytest.mark.parametrize(("precision", "mode", "least"), [("fp32", "ideal", 90.0), ("fp16", "declared", 45.0)])
def test_it_is_computed_as_by_torch(
    make: Callable[[], tuple[nn.Module, list[Tensor]]], precision: str, mode: str, least: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, inputs = make()
    network.eval().requires_grad_(False)
    executor = executor_of(network, inputs, tmp_path, precision, mode=mode)
    found = executor.run({name: tensor.numpy() for name, tensor in zip(executor.inputs, inputs, strict=True)})["out"]
    assert psnr_db(torch.from_numpy(found), network(*inputs)) > least
