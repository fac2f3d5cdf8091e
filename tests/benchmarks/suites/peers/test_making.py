"""The subject: of a recipe with random weights, or of a checkpoint and its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dbench.suites.peers import Settings
from dbench.suites.peers.making import Subject, prepare
from drun.console import silent
from drun.errors import ConfigError
from drun.run.golden import read_golden

pytestmark = pytest.mark.slow  # everyone's graphs are made first

SIZE = "model.size={hidden_size=32,depth=2,num_heads=2}"


def test_a_recipe_gives_random_weights_through_which_everything_reaches_the_output(dit: Subject) -> None:
    assert dit.is_random
    assert (dit.bundle.name, dit.denoiser.card.data.space) == ("dit-xl-2", "latent")
    assert [artifact.id for artifact in dit.bundle.manifest.artifacts] == ["onnx-fp32", "onnx-fp32-split"]
    assert all(parameter.any() for parameter in dit.denoiser.network.parameters())
    x, t, y = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.tensor([1])
    with torch.no_grad():
        outputs = [dit.denoiser.network(*given) for given in ((x, t, y), (x, t - 300, y), (x, t, y + 1))]
    assert all(float((other - outputs[0]).norm() / outputs[0].norm()) > 1e-3 for other in outputs[1:])


def test_a_target_brings_what_it_is_made_of(tmp_path: Path) -> None:
    settings = Settings("digits-sit", assignments=(SIZE,), targets=("openvino",), precisions=("fp32",))
    made = {artifact.format for artifact in prepare(settings, tmp_path, silent).bundle.manifest.artifacts}
    assert made == {"onnx", "openvino"}


@pytest.mark.slow
def test_the_weights_are_always_the_same(sit: Subject, tmp_path: Path) -> None:
    again = prepare(
        Settings("digits-sit", assignments=(SIZE,), targets=("onnx",), precisions=("fp32",)), tmp_path, silent
    )
    for call, other in zip(read_golden(sit.bundle).calls, read_golden(again.bundle).calls, strict=True):
        np.testing.assert_array_equal(call.out, other.out)


def test_a_checkpoint_takes_the_bundle_that_it_has(model: Any, tmp_path: Path) -> None:
    found = prepare(Settings(str(model.checkpoint), bundle=model.bundle), tmp_path, silent)
    assert (found.is_random, found.bundle.sha256) == (False, model.open().sha256)
    of_folder = prepare(Settings(str(model.run), bundle=model.bundle), tmp_path, silent)
    assert of_folder.bundle.sha256 == found.bundle.sha256
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_there_takes_no_settings(model: Any, tmp_path: Path) -> None:
    settings = Settings(str(model.checkpoint), bundle=model.bundle, assignments=("image_size=8",))
    with pytest.raises(ConfigError, match=r"--set got 'image_size=8', '.*' was exported already: leave it out"):
        prepare(settings, tmp_path, silent)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("digits-sit", {"targets": ("paper",)}, "--target got 'paper', expected one of "),
        ("absent.pt", {}, "no such checkpoint: 'absent.pt'"),
    ],
)
def test_wrong_words(name: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(Settings(name, **settings), tmp_path, silent)
