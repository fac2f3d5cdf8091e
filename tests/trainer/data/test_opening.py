"""Between a recipe and its data set: what the model takes, before any image is decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drun.errors import ConfigError
from dtrain import config
from dtrain.config import Recipe
from dtrain.data.opening import found, num_classes_of, pixel_channels, place_of

SIT = ["model.size={hidden_size=8,depth=1,num_heads=2}"]


def sit(*assignments: str) -> Recipe:
    return config.load("digits-sit", [*SIT, *assignments])


def unet(*assignments: str) -> Recipe:
    return config.load("digits-unet", ["model.dim=4", "model.dim_mults=[1,2]", *assignments])


def test_labels_are_as_many_as_the_model_knows() -> None:
    assert num_classes_of(sit("model.num_classes=7")) == 7
    assert num_classes_of(sit("model.num_classes=0")) == num_classes_of(unet()) == 0
    recipe = sit()
    unsaid = {key: value for key, value in recipe.model.items() if key != "num_classes"}
    assert num_classes_of(replace(recipe, model=unsaid)) == 1000


def test_pixels_are_grey_or_rgb() -> None:
    assert (pixel_channels(unet()), pixel_channels(unet("model.channels=3"))) == (1, 3)
    with pytest.raises(ConfigError, match="'digits' holds no latents, which a model of 2 channels draws: make some"):
        pixel_channels(unet("model.channels=2"))


def test_a_side_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 15x15 pixels, expected sides divisible by 2"):
        pixel_channels(unet("data.image_size=15"))


def test_images_of_a_size_and_of_no_other(tmp_path: Path) -> None:
    assert found(sit(), tmp_path / "run").shape == found(unet(), tmp_path / "run").shape == (1, 16, 16)
    images = found(unet("data.image_size=8"), tmp_path / "run")
    assert (images.shape, images.count) == ((1, 8, 8), 1797)
    assert np.asarray(images.decode(3)).ndim >= 2


def test_states_of_another_shape_are_refused(tmp_path: Path) -> None:
    recipe = sit()
    smaller = replace(recipe, model=recipe.model | {"input_size": 8})
    message = r"'digits' holds states of shape \(1, 16, 16\), the model takes \(1, 8, 8\): change its settings"
    with pytest.raises(ConfigError, match=message):
        found(smaller, tmp_path / "run")


def test_a_recipe_without_images_says_how_to_give_some() -> None:
    with pytest.raises(ConfigError, match="recipe 'sit-b-2' brings no images: add --data with a folder"):
        place_of(config.load("sit-b-2"))
