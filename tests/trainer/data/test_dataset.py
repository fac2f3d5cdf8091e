"""Pixels and latents as the training loop sees them, and every way in which they do not fit a model."""

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
from drun.errors import ConfigError, DataError
from dtrain import config
from dtrain.config import Recipe
from dtrain.data.batches import batch_indices
from dtrain.data.dataset import Dataset, LatentImages, PixelImages
from dtrain.data.digits import digit_labels
from dtrain.data.opening import described, open_dataset, warn_of_change
from dtrain.device import Placement
from dtrain.draws import Draws
from dtrain.train.start import start
from dtrain.train.step import read
from dtrain.train.workers import Workers

CPU = torch.device("cpu")
DIGITS = ["model.size={hidden_size=16,depth=1,num_heads=2}"]


def recipe(source: object, *assignments: str) -> Recipe:
    return config.load("digits-sit", [*DIGITS, *assignments], str(source))


def opened(recipe: Recipe, tmp_path: Path) -> Dataset:
    return open_dataset(recipe, tmp_path / "out", silent)


def draws(n: int, step: int = 0) -> Draws:
    return Draws(0, step, n, slice(0, n), CPU)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Pictures of one grey level each, in a folder for each class."""
    for label, name in enumerate(("cat", "dog", "eel")):
        for i in range(3):
            path = tmp_path / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), 50 * label + i).save(path)
    return tmp_path / "photos"


def write_latents(folder: Path, labels: list[int] | None, num: int = 6, pictures: bool = True) -> Path:
    """In REPA's layout: moments of 4x2x2 latents of 16x16 pictures."""
    rng = np.random.default_rng(0)
    for kind in ("vae-sd", "images"):
        (folder / kind / "00000").mkdir(parents=True)
    names = []
    for i in range(num):
        names.append(f"00000/img-mean-std-{i:08d}.npy")
        np.save(folder / "vae-sd" / names[-1], rng.random((8, 2, 2)).astype(np.float32) + i)
        Image.new("RGB", (16, 16), (i, i, i)).save(folder / "images" / "00000" / f"img{i:08d}.png")
    pairs = None if labels is None else [list(pair) for pair in zip(names, labels, strict=True)]
    (folder / "vae-sd" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return folder


def latent_recipe(source: Path, *assignments: str) -> Recipe:
    model = ["model.input_size=2", "model.channels=4", "model.patch_size=1", "model.num_classes=3"]
    return recipe(source, *model, *assignments)


def test_digits_have_their_labels(tmp_path: Path) -> None:
    dataset = opened(recipe("digits"), tmp_path)
    assert isinstance(dataset, PixelImages)
    assert len(dataset) == 1797
    assert dataset.shape == (1, 16, 16)
    assert np.array_equal(dataset.labels, digit_labels())
    assert dataset.latent == {}


def test_an_unconditional_model_wants_no_labels(tmp_path: Path) -> None:
    assert opened(recipe("digits", "model.num_classes=0", "data.label_dropout=0.0"), tmp_path).labels is None


def test_folders_are_classes_in_sorted_order(folders: Path, tmp_path: Path) -> None:
    dataset = opened(recipe(folders), tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.class_names == ("cat", "dog", "eel")
    arrays = dataset.read(np.array([8, 3]), True)
    x0, pictures = dataset.states(arrays, draws(2), [])
    assert x0.amax(dim=(1, 2, 3)).tolist() == pytest.approx([102 / 127.5 - 1, 50 / 127.5 - 1])
    assert pictures is not None
    assert pictures[:, 0, 0, 0].tolist() == [102, 50]
    assert dataset.read(np.array([1]), False).pictures is None


def test_the_recipe_is_told_what_it_learned_from(folders: Path, tmp_path: Path) -> None:
    dataset = opened(recipe(folders), tmp_path)
    told = described(recipe(folders).data, dataset)
    assert (told.num_images, told.class_names, told.latent) == (9, ("cat", "dog", "eel"), {})
    Image.new("L", (16, 16), 7).save(folders / "cat" / "0.png")
    assert described(told, opened(recipe(folders), tmp_path)).fingerprint != told.fingerprint == dataset.fingerprint


def test_a_run_that_goes_on_with_other_images_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe("photos").data
    for before, now in (("", "a"), ("a", "a")):
        warn_of_change(replace(data, fingerprint=before), replace(data, fingerprint=now))
    assert capsys.readouterr().err == ""
    warn_of_change(replace(data, fingerprint="a"), replace(data, fingerprint="b"))
    assert "warning: the images of 'photos' are not those that the run began with" in capsys.readouterr().err
    for names in ((), ("cat", "dog")):
        warn_of_change(replace(data, class_names=names), replace(data, class_names=("cat", "dog")))
    assert capsys.readouterr().err == ""
    warn_of_change(replace(data, class_names=("dog", "cat")), replace(data, class_names=("cat", "dog")))
    assert "warning: the classes of 'photos' are not called as when the run began" in capsys.readouterr().err


def test_previews_must_not_lie_among_the_images(folders: Path) -> None:
    with pytest.raises(DataError, match=r"would take in the run's folder .*, whose previews .*: choose another --out"):
        open_dataset(recipe(folders), folders / "runs", silent)
    assert len(open_dataset(recipe(folders), folders / ".runs", silent)) == 9


def test_teachers_see_the_augmented_picture(tmp_path: Path) -> None:
    dataset = opened(recipe("digits"), tmp_path)
    arrays = dataset.read(np.arange(32), True)
    x0, pictures = dataset.states(arrays, draws(32), ["hflip"])
    assert pictures is not None
    torch.testing.assert_close(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1, x0)
    flipped = [not torch.equal(pictures[i], arrays.states[i]) for i in range(32)]
    assert 5 < sum(flipped) < 27


def test_latents_are_drawn_from_their_posterior(tmp_path: Path) -> None:
    dataset = opened(latent_recipe(write_latents(tmp_path / "d", [0, 1, 2, 0, 1, 2])), tmp_path)
    assert isinstance(dataset, LatentImages)
    assert dataset.shape == (4, 2, 2)
    assert dataset.latent == {"vae": "stabilityai/sd-vae-ft-ema", "scale": [0.18215] * 4, "bias": [0.0] * 4}
    indices = np.array([4, 1])
    moments = np.stack([np.load(tmp_path / "d" / "vae-sd" / "00000" / f"img-mean-std-{i:08d}.npy") for i in indices])
    x0, pictures = dataset.states(dataset.read(indices, True), draws(2), [])
    noise = (x0.numpy() / 0.18215 - moments[:, :4]) / moments[:, 4:]
    np.testing.assert_allclose(noise, draws(2).latent_normal(4, 2, 2), atol=1e-4)
    assert pictures is not None
    assert pictures[:, 0, 0, 0].tolist() == [4, 1]
    assert dataset.all_pictures()[2:5][:, 0, 0, 0].tolist() == [2, 3, 4]
    assert len(dataset.all_pictures()) == 6


def write_flipped(folder: Path, num: int = 40) -> Path:
    """As dtrain encode --flip leaves it: constant moments i, of the mirror images 100 + i; pictures that rise."""
    folder.mkdir()
    moments = np.zeros((num, 8, 2, 2), np.float32)
    moments[:, :4] = np.arange(num).reshape(-1, 1, 1, 1)
    np.save(folder / "moments-00000.npy", moments)
    moments[:, :4] += 100
    np.save(folder / "moments-flipped-00000.npy", moments)
    np.save(folder / "images-00000.npy", np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None], (num, 16, 16, 3)))
    index = {
        "format": "dtrain latents", "version": 1, "image_size": 16, "shape": [4, 2, 2], "scale": [1.0] * 4,
        "bias": [0.0] * 4, "vae": {"name": "none"}, "shard_size": num, "flipped": True, "classes": None,
        "labels": [0] * num, "names": [f"{i}.png" for i in range(num)],
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("augment", ["[]", "['hflip']"])
def test_latents_are_drawn_of_either_version_with_its_picture(tmp_path: Path, augment: str) -> None:
    given = latent_recipe(write_flipped(tmp_path / "d"), f"data.augment={augment}")
    dataset, indices = opened(given, tmp_path), np.arange(40)
    x0, pictures = dataset.states(
        dataset.read(indices, True, draws(40), given.data.augment), draws(40), given.data.augment
    )
    tossed = draws(40).toss() if given.data.augment else torch.zeros(40, dtype=torch.bool)
    assert x0[:, 0, 0, 0].tolist() == (torch.arange(40) + 100 * tossed).tolist()
    assert pictures is not None
    assert (pictures[:, 0, 0, 0] == 15).tolist() == (pictures[:, 0, 15, 0] == 0).tolist() == tossed.tolist()
    assert not given.data.augment or 10 < int(tossed.sum()) < 30


def test_the_training_loop_reads_either_version(tmp_path: Path) -> None:
    """What a step reads follows from (seed, step), so parts of a batch and a resumed run read the same."""
    placement = Placement(CPU, precision="fp32", compile=False, reasons=())
    small = ["train.batch_size=20", "train.steps=2", "data.augment=['hflip']"]
    both: list[torch.Tensor] = []
    for name, accumulate in (("whole", 1), ("parts", 2)):
        given = latent_recipe(write_flipped(tmp_path / name), *small, f"train.accumulate={accumulate}")
        run = start(given, tmp_path / "out" / name, Workers(placement), False, silent)
        both.append(torch.cat([arrays.states for _, _, arrays in read(run, 1)])[:, 0, 0, 0])
    flips = Draws(0, 1, 20, slice(0, 20), CPU).toss()
    indices = torch.from_numpy(batch_indices(40, 20, 0, 1))
    assert torch.equal(both[0], both[1])
    assert both[0].tolist() == (indices + 100 * flips).tolist()


def test_the_fingerprint_follows_the_pictures(tmp_path: Path) -> None:
    images = np.zeros((3, 4, 4, 1), np.uint8)
    changed = images.copy()
    changed[2, 0, 0] = 1
    one, same, other = (PixelImages(None, array).fingerprint for array in (images, images.copy(), changed))
    assert one == same != other


def without_images(folder: Path) -> Path:
    import shutil

    shutil.rmtree(folder / "images")
    return folder


@pytest.mark.parametrize(
    ("labels", "assignments", "message"),
    [
        ([0, 1, 5, 0, 1, 2], [], "has labels up to 5, the model has 3 classes: set model.num_classes=6"),
        (None, [], "has no labels, the model has 3 classes: sort the images"),
        ([0] * 6, ["model.input_size=4"], r"holds states of shape \(4, 2, 2\), the model takes \(4, 4, 4\)"),
        (
            [0] * 6, ["data.augment=['hflip']"],
            r"data.augment got hflip, but '.*d' holds no latents of mirrored images: make them by dtrain encode "
            r"--flip, or train without, by --set data.augment=\[\]",
        ),
        (
            [0] * 6, ["data.augment=['hflip', 'vflip', 'rot90']"],
            "data.augment got vflip, rot90, but latents cannot be turned, .*set data.augment=.'hflip'.* encode --flip",
        ),
    ],
)  # fmt: skip
def test_latents_that_do_not_fit(tmp_path: Path, labels: Any, assignments: list[str], message: str) -> None:
    source = write_latents(tmp_path / "d", labels)
    with pytest.raises(ConfigError, match=message):
        opened(latent_recipe(source, *assignments), tmp_path)


def test_a_latent_without_its_picture_is_named(tmp_path: Path) -> None:
    source = write_latents(tmp_path / "d", [0] * 6)
    (source / "images" / "00000" / "img00000003.png").unlink()
    with pytest.raises(DataError, match="img-mean-std-00000003"):
        opened(latent_recipe(source), tmp_path)


def test_a_folder_without_latents_is_named(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no latents, which a model of 4 channels draws: .* dtrain encode"):
        opened(latent_recipe(folders), tmp_path)


def test_labels_are_checked_before_any_image_is_decoded(folders: Path, tmp_path: Path) -> None:
    (folders / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="has labels up to 2, the model has 2 classes"):
        opened(recipe(folders, "model.num_classes=2"), tmp_path)


def test_teachers_need_pictures(tmp_path: Path) -> None:
    dataset = opened(latent_recipe(without_images(write_latents(tmp_path / "d", [0] * 6))), tmp_path)
    dataset.read(np.arange(2), False)
    with pytest.raises(DataError, match="these latents come without images, which teachers need"):
        dataset.read(np.arange(2), True)


def test_teachers_need_pictures_before_the_first_step_unless_their_features_are_cached(tmp_path: Path) -> None:
    source = without_images(write_latents(tmp_path / "d", [0] * 6))
    aligned = replace(latent_recipe(source), objective={"name": "repa", "teachers": ["dinov2-vit-b"]})
    with pytest.raises(DataError, match="these latents come without images, which teachers need"):
        opened(aligned, tmp_path)
    cached = replace(aligned, objective=aligned.objective | {"cache": "features"})
    assert opened(cached, tmp_path).shape == (4, 2, 2)


def test_flat_folders_have_no_classes(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "flat" / "a.png")
    with pytest.raises(ConfigError, match="has no labels, the model has 10 classes: sort the images into a folder"):
        opened(recipe(tmp_path / "flat"), tmp_path)
    (tmp_path / "flat" / "cat").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "flat" / "cat" / "b.png")
    with pytest.raises(ConfigError, match=r"'a\.png' is in none, as 1 of its 2 images: move them into one, or away"):
        opened(recipe(tmp_path / "flat"), tmp_path)


@pytest.mark.parametrize("latents", [False, True])
def test_cached_features_and_augmentation_exclude_each_other(tmp_path: Path, latents: bool) -> None:
    flip = "data.augment=['hflip']"
    cached = latent_recipe(write_flipped(tmp_path / "d"), flip) if latents else recipe("digits", flip)
    cached = replace(cached, objective=cached.objective | {"cache": "features"})
    with pytest.raises(ConfigError, match="cached features are of the pictures as they are: choose one"):
        opened(cached, tmp_path)
