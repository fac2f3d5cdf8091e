"""What every network says of itself is what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drun.bundle.card import Classes
from drun.diffusion.prediction import LEARNED_RANGE
from drun.errors import ConfigError
from dtrain import models
from dtrain.models import Network

WIDTH = {"hidden_size": 16, "depth": 1, "num_heads": 2}
SIT = {"input_size": 8, "size": WIDTH, "channels": 2}
UNET = {"dim": 4, "dim_mults": [1, 2], "channels": 2}
VIT = {"image_size": 8, "patch_size": 2, "channels": 2, "hidden_size": 16, "depth": 1, "num_heads": 2}
#: Configuration, labels, variance.
SAID: list[tuple[dict[str, Any], Classes | None, str | None]] = [
    ({"name": "OneResUNet"} | UNET, None, None),
    ({"name": "TwoResUNet"} | UNET, None, None),
    ({"name": "AttentionUNet"} | UNET | {"out_dim": 4}, None, LEARNED_RANGE),
    ({"name": "SiT"} | SIT | {"num_classes": 3}, Classes(3, 3), None),
    ({"name": "SiT"} | SIT | {"num_classes": 3, "null_class": False}, Classes(3, None), None),
    ({"name": "SiT"} | SIT | {"num_classes": 0}, None, None),
    ({"name": "DiT"} | SIT | {"num_classes": 3}, Classes(3, 3), LEARNED_RANGE),
    ({"name": "ViT"} | VIT | {"num_classes": 3}, Classes(3, None), None),
    ({"name": "CNN", "image_size": 8, "channels": 2, "num_classes": 3, "width": 32}, Classes(3, None), None),
]


def test_every_model_is_looked_at() -> None:
    assert {config["name"] for config, *_ in SAID} == set(models.available())
    assert all(issubclass(model, Network) for model in models.available().values())


@pytest.mark.parametrize(("config", "classes", "variance"), SAID)
def test_what_a_network_says_is_what_it_computes(
    config: dict[str, Any], classes: Classes | None, variance: str | None
) -> None:
    network = models.build(config).eval()
    assert (network.classes, network.variance) == (classes, variance)
    assert {key: network.config[key] for key in config} == config
    shape = network.state_shape(8)
    assert shape == (2, 8, 8)
    x = torch.zeros(3, *shape)
    if network.predicts == "class":
        assert network(x).shape == (3, classes.count)
        return
    highest = 0 if classes is None else classes.count if classes.null_label is not None else classes.count - 1
    labels = () if classes is None else (torch.tensor([0, 1, highest]),)
    output = network(x, torch.tensor([0.5]), *labels)
    assert output.shape == (3, 4 if variance else 2, 8, 8)


def test_a_network_of_one_size_says_it_whatever_the_wish() -> None:
    assert models.outline({"name": "SiT"} | SIT).state_shape(64) == (2, 8, 8)
    assert models.outline({"name": "OneResUNet"} | UNET).state_shape(64) == (2, 64, 64)


def test_a_side_that_the_levels_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 9x9 pixels, expected sides divisible by 2"):
        models.outline({"name": "OneResUNet"} | UNET).state_shape(9)


def test_an_outline_has_the_shapes_and_no_weights() -> None:
    for config, *_ in SAID:
        outline, network = models.outline(config), models.build(config)
        assert all(tensor.is_meta for tensor in outline.parameters())
        assert [tensor.shape for tensor in outline.parameters()] == [tensor.shape for tensor in network.parameters()]


def test_unknown_names_and_keywords_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown model 'GAN': choose one of AttentionUNet, CNN, DiT"):
        models.build({"name": "GAN"})
    with pytest.raises(ConfigError, match=r"unknown setting 'model.colour'; its settings are dim, init_dim"):
        models.build({"name": "OneResUNet", "dim": 4, "colour": 1})
