"""The networks of recipes and of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dbench.suites.graphs import subjects
from dbench.suites.graphs.settings import GraphsSettings

TINY = ("model.dim=8", "model.dim_mults=[1,2]")


def test_a_recipe_gets_random_weights_of_which_none_is_zero(tmp_path: Path) -> None:
    settings = GraphsSettings("digits-unet", assignments=TINY)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (subjects.load(settings, tmp_path / name) for name in "ab")
    weights = one.denoiser.network.state_dict()
    assert all(bool(value.all()) for value in weights.values())
    torch.testing.assert_close(weights, other.denoiser.network.state_dict(), rtol=0, atol=0)
    assert one.subject == other.subject
    assert one.subject["name"] == "digits-unet"
    assert one.subject["parameters"] == sum(value.numel() for value in weights.values())
    assert one.weights == "random, seed 0"


def test_a_checkpoint_keeps_its_weights(model: Any, tmp_path: Path) -> None:
    loaded = subjects.load(GraphsSettings(str(model.checkpoint)), tmp_path)
    assert loaded.subject["checkpoint_sha256"] == model.open().manifest.model.checkpoint["sha256"]
    assert loaded.subject["name"] == model.checkpoint.stem
    assert loaded.weights == "ema"
