"""What shares a hash belongs together, and what states another one does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench.core import subject
from drun.files import sha256
from drun.foreign import read_json
from dtrain import config

ONE, TWO = "1" * 64, "2" * 64
MODEL = {"checkpoint_sha256": ONE, "bundle_sha256": ONE, "samples_sha256": ONE}


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ({"checkpoint_sha256": ONE}, ""),
        ({"checkpoint_sha256": ONE, "recipe_sha256": TWO}, ""),  # the model's recipe is not known
        ({"samples_sha256": ONE, "bundle_sha256": None}, ""),
        ({"checkpoint_sha256": [TWO, ONE]}, ""),
        ({"checkpoint_sha256": TWO}, "of checkpoint 22222222…, not 11111111…"),
        ({"checkpoint_sha256": ONE, "bundle_sha256": TWO}, "of bundle 22222222…, not 11111111…"),  # other weights of it
        ({"bundle_sha256": ONE, "samples_sha256": TWO}, "of samples 22222222…, not 11111111…"),
        ({"name": "x"}, "of unknown samples, bundle, checkpoint"),
        ({"recipe_sha256": ONE}, "of unknown samples, bundle, checkpoint"),
    ],
)
def test_what_belongs_to_a_model(stated: dict[str, Any], why: str) -> None:
    assert subject.mismatch(stated, MODEL) == why


def test_of_a_bundle_and_of_samples_drawn_from_it(model: Any) -> None:
    of_bundle = subject.of_bundle(model.open())
    of_samples = subject.of_samples(model.samples / "samples.npz", read_json(model.samples / "run.json"))
    assert of_bundle["bundle_sha256"] == read_json(model.bundle / "manifest.json")["sha256"]
    assert of_bundle["checkpoint_sha256"] == sha256(model.checkpoint)
    assert subject.mismatch(of_samples, {key: of_bundle[key] for key in ("checkpoint_sha256", "bundle_sha256")}) == ""
    assert of_samples["samples_sha256"] == sha256(model.samples / "samples.npz")
    assert (of_bundle["name"], of_samples["name"]) == ("tiny", "samples")


def test_samples_of_others_have_one_hash(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", arr_0=np.zeros((2, 8, 8, 1), np.uint8))
    found = subject.of_samples(tmp_path / "theirs.npz", {})
    assert found == {"name": tmp_path.name, "samples_sha256": sha256(tmp_path / "theirs.npz")}


def test_a_recipe_is_what_it_trains_whatever_the_length_and_the_data() -> None:
    recipe = config.load("digits-unet")
    same = replace(recipe, train=replace(recipe.train, steps=3, seed=9), data=replace(recipe.data, source="elsewhere"))
    other = config.load("digits-unet", ["model.dim=8"])
    digests = [subject.of_recipe(each.to_dict())["recipe_sha256"] for each in (recipe, same, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("digits-unet",) * 2, ("a b/../c", "a-b-..-c"), ("Möwe", "Möwe"), ("/", "unnamed"), ("x" * 99, "x" * 60)],
)
def test_file_names_are_readable_and_safe(name: str, shown: str) -> None:
    found, _, digest = subject.file_name({"name": name}, {}).rpartition("-")
    assert found == shown
    assert len(digest) == 8


def test_no_two_subjects_or_settings_share_a_file_name() -> None:
    subjects = [{"name": "a", "samples_sha256": ONE}, {"name": "a", "samples_sha256": TWO}, {"name": "a"}]
    assert len({subject.file_name(each, {"batch": batch}) for each in subjects for batch in (1, 8)}) == 6
    assert subject.file_name({"x": (1, 2), "name": "a"}, {}) == subject.file_name({"name": "a", "x": [1, 2]}, {})
