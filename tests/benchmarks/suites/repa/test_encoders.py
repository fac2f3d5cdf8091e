"""Teachers that are there, that are trained first, and that know nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import CPU

from dbench.core import stand_ins
from dbench.suites.repa.encoders import Encoders
from drun.console import silent
from drun.errors import ConfigError
from dtrain import config, device, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.config import Recipe
from dtrain.train.start import start
from dtrain.train.workers import Workers

SMALL = [
    "model.hidden_size=8", "model.depth=1", "model.num_heads=2", "train.steps=2", "train.save_every=1",
    "train.batch_size=4", "train.seed=7",
]  # fmt: skip


@pytest.fixture
def encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoders:
    """Where recipes of teachers are small."""
    load = config.load

    def small(name: str, assignments: Any = None, **kwargs: Any) -> Recipe:
        return load(name, [*(assignments or []), *(SMALL if name == "digits-teacher" else [])], **kwargs)

    monkeypatch.setattr(config, "load", small)
    monkeypatch.chdir(tmp_path)
    return Encoders(load("digits-sit"), tmp_path / "runs")


@pytest.mark.parametrize("spec", ["digits-teacher", "runs/of/digits-teacher"])
def test_a_recipe_is_trained_once(encoders: Encoders, spec: str) -> None:
    folder = Path(encoders.trained(spec, silent))
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert teachers.load(str(folder), 16, CPU).dim == 8
    assert Path(encoders.trained("digits-teacher", silent)) == folder
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


@pytest.mark.parametrize("spec", ["digits-teacher", "runs/digits-teacher"])
def test_an_unfinished_one_goes_on(encoders: Encoders, spec: str) -> None:
    """Also where the recipe's own folder of the teacher is that of the comparison."""
    folder = Path(encoders.trained("digits-teacher", silent))
    last = folder / "digits-teacher-0000002.pt"
    whole = teachers.load(str(last), 16, CPU).fingerprint
    last.unlink()
    encoders.trained(spec, silent)
    assert teachers.load(str(last), 16, CPU).fingerprint == whole


def test_one_with_other_settings_is_not_taken(encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders.trained("digits-teacher", silent)
    monkeypatch.setitem(globals(), "SMALL", [*SMALL, "optimizer.learning_rate=1e-4"])
    with pytest.raises(ConfigError, match=r"was trained with optimizer\.learning_rate = 0\.001, now it is 0\.0001"):
        encoders.trained("digits-teacher", silent)


def test_what_is_there_is_taken(encoders: Encoders, tmp_path: Path) -> None:
    (tmp_path / "digits-teacher").mkdir()
    assert encoders.trained(str(tmp_path / "digits-teacher"), silent) == str(tmp_path / "digits-teacher")
    assert encoders.trained("dinov2-vit-b", silent) == "dinov2-vit-b"
    assert encoders.trained("mae-vit-l=somewhere", silent) == "mae-vit-l=somewhere"
    assert encoders.trained("no-such-thing", silent) == "no-such-thing"  # dtrain.teachers.load says what is wrong


def test_a_random_one_has_the_shape_and_nothing_else(encoders: Encoders) -> None:
    spec = encoders.trained("digits-teacher", silent)
    random = encoders.random(spec)
    assert encoders.random(spec) == random
    taught, untaught = teachers.load(spec, 16, CPU), teachers.load(random, 16, CPU)
    assert (untaught.num_tokens, untaught.dim) == (taught.num_tokens, taught.dim)
    assert untaught.fingerprint != taught.fingerprint


def test_a_random_one_is_the_trained_one_before_its_first_step(encoders: Encoders) -> None:
    """Of whatever seed; it is known before the training."""
    random = encoders.random("digits-teacher")
    recipe = encoders.recipe_of("digits-teacher")
    assert recipe is not None
    assert recipe.train.seed == 7
    run = start(recipe, encoders.folder / "fresh", Workers(device.choose("cpu", "fp32", "off")), False, silent)
    saved = checkpoint.read(next(Path(random).glob("*.pt"))).model
    assert all(torch.equal(saved[name], value) for name, value in run.network.state_dict().items())
    assert encoders.random(encoders.trained("digits-teacher", silent)) == random


def test_another_network_or_seed_has_another_random_one(encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {encoders.random("digits-teacher")}
    for change in ("train.seed=8", "model.depth=2"):
        monkeypatch.setitem(globals(), "SMALL", [*SMALL, change])
        found.add(encoders.random("digits-teacher"))
    assert len(found) == 3


def test_two_folders_of_one_name_are_two_encoders(encoders: Encoders, tmp_path: Path) -> None:
    """The recipe, its folder in the comparison, and that folder by another path are one."""
    one = encoders.place_of("digits-teacher")
    assert one == encoders.place_of("runs/digits-teacher") == encoders.place_of(str(tmp_path / "runs/digits-teacher"))
    (tmp_path / "other" / "digits-teacher").mkdir(parents=True)
    assert encoders.place_of("other/digits-teacher") != one


def test_a_recipe_of_ones_own(encoders: Encoders, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "digits-teacher"\n[model]\nhidden_size = 12\n[train]\nsteps = 2\n')
    assert teachers.load(encoders.trained(str(mine), silent), 16, CPU).dim == 12


def test_a_random_published_one(encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    monkeypatch.setitem(stand_ins.SIZES, "b", tiny)
    of_photos = Encoders(config.load("sit-b-2-repa"), encoders.folder)
    state = torch.random.get_rng_state()
    spec = of_photos.random("dinov2-vit-b")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert spec == f"dinov2-vit-b={encoders.folder / 'random-dinov2-vit-b'}"
    assert of_photos.random("dinov2-vit-b=elsewhere") == spec
    assert teachers.load(spec, 256, CPU).dim == 48


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits-sit", "recipe 'digits-sit' trains no encoder, but a SiT"),
        ("fashion-features", "recipe 'fashion-features' takes images of 28 pixels, 'digits-sit' has 16"),
    ],
)
def test_what_cannot_see_these_images(encoders: Encoders, spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoders.recipe_of(spec)
