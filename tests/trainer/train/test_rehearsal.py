"""The dry run: it finds what the run would find, in seconds, and touches nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drun.console import silent
from drun.errors import ConfigError, DataError, UserError
from drun.files import locked
from dtrain import config
from dtrain.config import Recipe
from dtrain.device import Placement
from dtrain.train import rehearsal
from dtrain.train.loop import train

CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())
SMALL_SIT = ["model.size={hidden_size=8, depth=1, num_heads=2}", "data.image_size=8"]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes of two grey 8x8 pictures."""
    for name in ("bag", "coat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (8, 8), 90 * i).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def sit(source: Path, *assignments: str) -> Recipe:
    return config.load("fashion-sit", [*SMALL_SIT, "model.num_classes=2", *assignments], str(source))


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_it_says_what_a_run_is_and_costs() -> None:
    recipe = config.load("aerial-128")
    what, steps, where = rehearsal.summary(recipe, Path("runs/aerial-128"))
    assert what == "aerial-128: TwoResUNet, 62,699,395 parameters, objective ddpm, discrete process, 128x128 pixels"
    assert steps == "37,000 steps of 16 images: 592,000 images are seen"
    assert where.startswith("writes runs/aerial-128/: a checkpoint of about 1,003 MB every 1,000 steps (the last 3 ")


def test_a_run_that_would_start_is_let_through_and_nothing_is_written(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_in(tmp_path)
    assert rehearsal.check(sit(folders), tmp_path / "runs" / "new", CPU, resume=False) == (4, 4)
    monkeypatch.setattr(rehearsal, "MAX_DECODED", 3)
    assert rehearsal.check(sit(folders), tmp_path / "runs" / "new", CPU, resume=False) == (3, 4)
    assert files_in(tmp_path) == before


def test_a_broken_image_is_named(folders: Path, tmp_path: Path) -> None:
    whole = (folders / "coat" / "1.png").read_bytes()
    (folders / "coat" / "1.png").write_bytes(whole[:45])
    with pytest.raises(DataError, match=r"cannot decode image '.*coat/1.png'"):
        rehearsal.check(sit(folders), tmp_path / "run", CPU, resume=False)


REFUSED: list[tuple[list[str], str]] = [
    (["train.batch_size=3", "train.accumulate=2"], "train.batch_size got 3, expected a multiple of 1 processes times"),
    (["model.num_classes=1"], "has labels up to 1, the model has 1 classes: set model.num_classes=2"),
    (["model.patch_size=3"], "got side 8 and patch_size 3, expected a multiple of patch_size"),
    (["model.channels=4", "data.image_size=32"], "holds no latents, which a model of 4 channels draws"),
    (["objective.prediction=cat"], "objective.prediction got 'cat', expected one of"),
    (["objective.speed=3"], "objective 'flow' has no option 'speed'"),
    (["model.name=DiT"], "has 2 output channels, objective flow needs 1"),
    (["model.num_classes=0"], "data.label_dropout needs a model with classes and a null label"),
    (["process.path=round"], "unknown path 'round': choose one of linear, cosine, vp"),
    (["objective.name=classify", "objective.prediction=1"], "objective 'classify' has no option 'prediction'"),
    (
        ["objective.name=repa", "objective.base={name='flow'}", "objective.teachers=['runs/none']"],
        "objective 'repa' has no option 'prediction'",
    ),
]


@pytest.mark.parametrize(("assignments", "message"), REFUSED)
def test_it_refuses_what_the_run_refuses_with_the_same_sentence(
    folders: Path, tmp_path: Path, assignments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        rehearsal.check(sit(folders, *assignments), tmp_path / "run", CPU, resume=False)
    with pytest.raises(ConfigError) as met:
        train(sit(folders, *assignments), tmp_path / "run", CPU, False, silent)
    assert str(found.value) == str(met.value)


def test_a_u_net_of_another_side_is_refused_before_hours_of_decoding(folders: Path, tmp_path: Path) -> None:
    recipe = config.load("fashion-unet", ["model.dim=8", "data.image_size=10"], str(folders))
    with pytest.raises(ConfigError, match="got 10x10 pixels, expected sides divisible by 4"):
        rehearsal.check(recipe, tmp_path / "run", CPU, resume=False)


def test_the_number_of_classes_is_the_models_own_where_no_recipe_says_it(folders: Path, tmp_path: Path) -> None:
    recipe = sit(folders, "data.label_dropout=0")
    unsaid = replace(recipe, model={key: value for key, value in recipe.model.items() if key != "num_classes"})
    assert rehearsal.check(unsaid, tmp_path / "run", CPU, resume=False) == (4, 4)
    (folders / "bag" / "0.png").rename(folders / "0.png")
    with pytest.raises(ConfigError, match=r"has a folder for each class, and '0\.png' is in none"):
        rehearsal.check(unsaid, tmp_path / "run", CPU, resume=False)


def test_missing_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        rehearsal.check(sit(tmp_path / "nowhere"), tmp_path / "run", CPU, resume=False)


def test_the_cache_is_looked_at(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "file" / "sub"))
    with pytest.raises(UserError, match=r"cannot write the cache '.*sub': .* set DEXPORT_CACHE to another folder"):
        rehearsal.check(sit(folders), tmp_path / "run", CPU, resume=False)
    monkeypatch.setenv("DEXPORT_CACHE", str(folders / "cache"))
    with pytest.raises(DataError, match=r"would take in the cache '.*cache'"):
        rehearsal.check(sit(folders), tmp_path / "run", CPU, resume=False)


def test_the_folder_is_looked_at(folders: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*sub': '.*file' takes no new folders; choose another --out"):
        rehearsal.check(sit(folders), file / "sub", CPU, resume=False)
    with pytest.raises(ConfigError, match="nothing to resume"):
        rehearsal.check(sit(folders), out, CPU, resume=True)
    recipe = sit(folders, "train.steps=1", "train.batch_size=2", "train.num_previews=1", "train.preview_steps=2")
    train(recipe, out, CPU, False, silent)
    with pytest.raises(ConfigError, match="already holds a run of 'fashion-sit': add --resume"):
        rehearsal.check(recipe, out, CPU, resume=False)
    rehearsal.check(replace(recipe, train=replace(recipe.train, steps=2)), out, CPU, resume=True)
    with pytest.raises(ConfigError, match="was trained with batch_size = 2, got 4"):
        rehearsal.check(replace(recipe, train=replace(recipe.train, batch_size=4)), out, CPU, resume=True)
    with locked(out), pytest.raises(UserError, match="another run is writing"):
        rehearsal.check(recipe, out, CPU, resume=True)


def test_an_objective_is_rehearsed_with_its_teacher(folders: Path, tmp_path: Path) -> None:
    """And a teacher of too few tokens is found."""
    vit = ["model.hidden_size=8", "model.depth=1", "model.num_heads=2", "model.num_classes=2", "data.image_size=8"]
    brief = ["train.steps=1", "train.batch_size=2"]
    train(config.load("digits-teacher", [*vit, *brief], str(folders)), tmp_path / "teacher", CPU, False, silent)
    aligned: dict[str, Any] = {
        "name": "repa", "base": {"name": "flow"}, "teachers": [str(tmp_path / "teacher")], "encoder_depth": 1,
        "projector_width": 8,
    }  # fmt: skip
    rehearsal.check(replace(sit(folders), objective=aligned), tmp_path / "run", CPU, resume=False)
    recipe = replace(sit(folders, "model.patch_size=2"), objective=aligned)
    with pytest.raises(ConfigError, match="gives 4 tokens for 8 pixels, the network has 16"):
        rehearsal.check(recipe, tmp_path / "run", CPU, resume=False)


@pytest.mark.parametrize("name", [name for name in config.names() if "repa" not in name])
def test_every_recipe_is_rehearsed(name: str) -> None:
    """On blank states of its own shape, with the whole of the objective and the shapes of the network."""
    from drun.diffusion import process
    from dtrain import objectives

    recipe = config.load(name)
    side = recipe.model.get("input_size", recipe.data.image_size)
    objective = objectives.build(recipe.objective, process.from_dict(recipe.process), CPU.device)
    rehearsal.rehearse(recipe, objective, (recipe.model["channels"], side, side), CPU.device)


@pytest.mark.parametrize(("side", "message"), [(2, None), (4, r"holds states of shape \(4, 2, 2\)")])
def test_latents_are_rehearsed_in_their_own_shape(tmp_path: Path, side: int, message: str | None) -> None:
    """In REPA's layout: 4x2x2 latents of 16x16 pictures."""
    moments = tmp_path / "latents" / "vae-sd" / "00000"
    moments.mkdir(parents=True)
    for i in range(2):
        np.save(moments / f"img-mean-std-{i:08d}.npy", np.zeros((8, 2, 2), np.float32))
    labels = {"labels": [[f"00000/img-mean-std-{i:08d}.npy", i] for i in range(2)]}
    (moments.parent / "dataset.json").write_text(json.dumps(labels))
    latent = ["data.image_size=16", "model.channels=4", "model.patch_size=1", f"model.input_size={side}"]
    recipe = sit(tmp_path / "latents", *latent)
    if message is None:
        rehearsal.check(recipe, tmp_path / "run", CPU, resume=False)
    else:
        with pytest.raises(ConfigError, match=message):
            rehearsal.check(recipe, tmp_path / "run", CPU, resume=False)
