"""The small convolutional classifier against its layers, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from drun.errors import ConfigError
from dtrain.models import Encoder, build

TINY = {"image_size": 8, "channels": 3, "num_classes": 5, "width": 32}


def tiny(**settings: int) -> nn.Module:
    torch.manual_seed(0)
    net = build({"name": "CNN", **TINY, **settings}).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def test_logits_are_of_the_mean_of_a_quarter_sized_map() -> None:
    net, x = tiny(), torch.randn(2, 3, 8, 8)
    y = x
    for place, stride in ((0, 1), (3, 2), (6, 2), (9, 1)):
        conv, norm = (dict(net.layers.named_children())[str(place + i)] for i in (0, 1))
        y = F.conv2d(y, conv.weight, conv.bias, stride, padding=1)
        grouped = y.unflatten(1, (-1, 8))
        mean = grouped.mean(dim=(2, 3, 4), keepdim=True)
        spread = (grouped.var(dim=(2, 3, 4), keepdim=True, correction=0) + norm.eps).sqrt()
        y = ((grouped - mean) / spread).flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]
        y = y * torch.sigmoid(y)
    assert y.shape == (2, 32, 2, 2)
    torch.testing.assert_close(net.tokens(x), y.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x), net.head(y.mean(dim=(2, 3))), rtol=1e-4, atol=1e-5)


def test_attributes_and_config_rebuild_the_net() -> None:
    net, x = tiny(), torch.randn(2, 3, 8, 8)
    assert isinstance(net, Encoder)
    assert (net.num_tokens, net.hidden_size, net.predicts, net.state_shape(99)) == (4, 32, "class", (3, 8, 8))
    again = build(net.config)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), net(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 10}, "image_size got 10, expected a multiple of 4 from 4 on"),
        ({"width": 48}, "width got 48, expected a multiple of 32 from 32 on"),
        ({"num_classes": 0}, "num_classes got 0"),
    ],
)
def test_build_refuses(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"name": "CNN", **TINY, **settings})


def test_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="the input does not fit CNN"):
        tiny()(torch.zeros(1, 3, 12, 12))
