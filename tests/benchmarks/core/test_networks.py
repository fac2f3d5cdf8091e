"""What a user names: a checkpoint, the folder of a run, or a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dbench.core import networks
from drun.errors import ConfigError, UserError

TINY = ("model.dim=8", "model.dim_mults=[1,2]")


def test_a_recipe_is_given_random_weights(tmp_path: Path) -> None:
    origin = networks.find("digits-unet", TINY, tmp_path)
    assert origin.is_random
    assert origin.recipe is not None
    assert origin.recipe.name == "digits-unet"
    assert origin.checkpoint.parent == tmp_path
    assert origin.load().config["dim"] == 8


def test_a_checkpoint_or_its_folder_stays_where_it_is(model: Any, tmp_path: Path) -> None:
    for given in (model.checkpoint, model.run):
        origin = networks.find(str(given), (), tmp_path)
        assert (origin.checkpoint, origin.is_random) == (model.checkpoint, False)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_a_checkpoint_does_not_state(model: Any, tmp_path: Path) -> None:
    origin = networks.find(str(model.checkpoint), ("image_size=16",), tmp_path)
    assert origin.settings == {"image_size": "16"}
    assert origin.load().card.data.shape[1:] == (16, 16)


@pytest.mark.parametrize(
    ("name", "assignments", "message"),
    [
        ("absent.pt", (), "no such checkpoint: 'absent.pt'"),
        ("absent", (), "unknown recipe 'absent': choose one of "),
        ("absent.toml", (), "absent.toml"),
        ("digits-sit", ("model.colour=1",), "unknown setting 'model.colour'"),
        (".", ("image_size=16",), "is a folder without checkpoints"),
    ],
)
def test_wrong_words(name: str, assignments: Sequence[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        networks.find(name, assignments, tmp_path)


def test_a_setting_without_a_value(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set got 'image_size', expected option=value"):
        networks.find(str(model.checkpoint), ("image_size",), tmp_path)
