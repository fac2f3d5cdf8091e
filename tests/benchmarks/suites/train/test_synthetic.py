"""Data and teachers that are made where there are none have the sizes of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from trials import CPU

from dbench.core import stand_ins
from dbench.suites.train import synthetic
from drun.console import silent
from dtrain import config, teachers
from dtrain.data.dataset import LatentImages
from dtrain.data.opening import open_dataset
from dtrain.teachers import TEACHERS

TINY_TEACHER = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


def test_latents_are_those_of_a_folder_that_dtrain_encoded(tmp_path: Path) -> None:
    recipe = config.load("sit-s-2", ["model.input_size=8", "data.image_size=64"])
    source = synthetic.write_data(recipe, tmp_path, 5)
    recipe = config.load("sit-s-2", ["model.input_size=8", "data.image_size=64"], str(source))
    dataset = open_dataset(recipe, tmp_path / "run", silent)
    assert (len(dataset), dataset.shape) == (5, (4, 8, 8))
    assert isinstance(dataset, LatentImages)
    assert dataset.source.flipped is not None  # the recipe draws mirror images
    assert dataset.labels is not None
    assert dataset.labels.max() < 1000
    read = dataset.read(np.array([4, 0]), pictures=True)
    mean, std = np.split(read.states.numpy(), 2, axis=1)
    assert 0.8 < mean.std() < 1.2
    assert np.unique(std).tolist() == [np.float32(0.1)]
    assert read.pictures is not None
    assert read.pictures.shape == (2, 64, 64, 3)
    assert read.pictures.float().std() > 60


@pytest.mark.parametrize(
    ("name", "shape", "labelled"),
    [("digits-unet", (1, 16, 16), False), ("digits-sit", (1, 16, 16), True), ("aerial-128", (3, 128, 128), False)],
)
def test_pixels_have_the_shape_and_labels_of_the_recipe(
    name: str, shape: tuple[int, ...], labelled: bool, tmp_path: Path
) -> None:
    source = synthetic.write_data(config.load(name), tmp_path, 3)
    dataset = open_dataset(config.load(name, data=str(source)), tmp_path / "run", silent)
    assert (len(dataset), dataset.shape, dataset.labels is not None) == (3, shape, labelled)


#: Millions of weights, as the papers and model cards say, without heads.
MILLIONS = {
    "dinov2-vit-s": 22.1, "dinov2-vit-b": 86.6, "dinov2-vit-l": 304.4, "dinov2-vit-g": 1136.5,
    "dinov2-reg-vit-b": 86.6, "dinov1-vit-s": 21.7, "dinov1-vit-b": 85.8, "mae-vit-l": 303.3, "mocov3-vit-s": 21.7,
    "clip-vit-l": 303.2, "jepa-vit-h": 630.8,
}  # fmt: skip


@pytest.mark.parametrize("name", MILLIONS)
def test_teachers_have_the_size_of_the_published_ones(name: str) -> None:
    kind = getattr(transformers, TEACHERS[name].family.model)
    with torch.device("meta"):
        network = kind(kind.config_class(**stand_ins.published_config(name, 256)))
    pooler = sum(each.numel() for key, each in network.named_parameters() if key.startswith("pooler"))
    count = sum(each.numel() for each in network.parameters()) - pooler
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=0.003)


@pytest.mark.parametrize("name", ["dinov2-vit-b", "dinov2-reg-vit-b", "mocov3-vit-b", "mae-vit-l", "clip-vit-l"])
def test_random_teachers_are_read_like_published_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter in "bl":
        monkeypatch.setitem(stand_ins.SIZES, letter, TINY_TEACHER)
    spec = synthetic.stand_in(name, 256, tmp_path)
    assert spec == f"{name}={tmp_path / name}"
    teacher = teachers.load(spec, 256, CPU.device)
    features = teacher(torch.randint(256, (1, 256, 256, 3), dtype=torch.uint8))
    assert features.shape == (1, 256, 48)
    assert features.std() > 0.01


def test_teachers_that_are_there_are_used_as_they_are(tmp_path: Path) -> None:
    own = synthetic.stand_in("runs/digits-teacher", 16, tmp_path)
    assert teachers.load(own, 16, CPU.device).num_tokens == 16
    for given in (own, "dinov2-vit-b=somewhere", "runs/digits-sit", "runs/another"):
        assert synthetic.stand_in(given, 16, tmp_path) == given
