"""Every field of a latents' index has its type, range and length, or there is one sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.errors import DataError
from dtrain.data.latents import open_latents

INDEX: dict[str, Any] = {
    "format": "dtrain latents", "version": 1, "image_size": 16, "shape": [4, 2, 2], "scale": [0.5] * 4,
    "bias": [0.0] * 4, "vae": {"name": "owner/vae", "fingerprint": ""}, "shard_size": 2, "classes": ["cat", "dog"],
    "labels": [0, 1, 1], "names": ["a.png", "b.png", "c.png"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three latents in two shards."""
    root, rng = tmp_path_factory.mktemp("latents"), np.random.default_rng(0)
    for shard, rows in enumerate((2, 1)):
        np.save(root / f"moments-{shard:05d}.npy", rng.random((rows, 8, 2, 2), np.float32))
        np.save(root / f"images-{shard:05d}.npy", rng.integers(0, 256, (rows, 16, 16, 3), np.uint8))
    return root


def write(folder: Path, index: Any) -> None:
    (folder / "index.json").write_text(json.dumps(index))


def test_as_it_should_be(folder: Path) -> None:
    write(folder, INDEX)
    latents = open_latents(folder)
    assert (len(latents), latents.num_classes, latents.vae) == (3, 2, "owner/vae")
    write(folder, INDEX | {"labels": None, "classes": None})
    assert open_latents(folder).labels is None
    write(folder, INDEX | {"classes": None, "more": "fields"})
    assert open_latents(folder).num_classes == 2


WRONG: list[tuple[str, Any, str]] = [
    ("scale", [0.5] * 5, r"scale got .*, expected 4 finite numbers"),
    ("scale", [0.5] * 3, "expected 4 finite numbers"),
    ("scale", [0.5, 0.5, 0.5, 1e300], "expected 4 finite numbers"),
    ("scale", [0.5, 0.5, 0.5, 10**400], "expected 4 finite numbers"),
    ("scale", [0.5, 0.5, 0.5, "1"], "expected 4 finite numbers"),
    ("scale", [True] * 4, "expected 4 finite numbers"),
    ("scale", [0.0] * 4, "scale got .*, expected numbers above 0"),
    ("scale", 0.5, "expected 4 finite numbers"),
    ("bias", [0.0] * 5, "bias got .*, expected 4 finite numbers"),
    ("bias", None, "bias got None"),
    ("labels", [0, 1], r"expected no labels, or 3 whole numbers in 0\.\.1"),
    ("labels", [0, 0.5, 1], "expected no labels, or 3 whole numbers"),
    ("labels", [0, True, 1], "expected no labels, or 3 whole numbers"),
    ("labels", [0, -1, 1], "expected no labels, or 3 whole numbers"),
    ("labels", [0, 10**30, 1], "expected no labels, or 3 whole numbers"),
    ("labels", [0, None, 1], "expected no labels, or 3 whole numbers"),
    ("labels", [0, 2, 1], "labels reach 2, expected less than the 2 classes"),
    ("labels", "012", "expected no labels, or 3 whole numbers"),
    ("labels", None, "it has classes and no labels"),
    ("classes", [], "classes are not one text or more"),
    ("classes", [1, 2], "classes are not one text or more"),
    ("names", [], "names are not one text or more"),
    ("names", ["a", "b", 3], "names are not one text or more"),
    ("names", "abc", "names are not one text or more"),
    ("shape", [4, 2, 0], r"shape got 0, expected whole numbers in 1\.\.65536"),
    ("shape", [4, 2.0, 2], "shape got 2.0"),
    ("shape", [4, 2, 10**9], "shape got 1000000000"),
    ("shape", [4, 2, 2, 1], "shape got .*, expected 3 sides"),
    ("shape", 4, "shape got 4, expected 3 sides"),
    ("shard_size", 0, "shard_size got 0"),
    ("shard_size", "2", "shard_size got '2'"),
    ("image_size", -16, "image_size got -16"),
    ("vae", "owner/vae", "vae got 'owner/vae', expected an object with a name"),
    ("vae", {"name": 3}, "vae got .*, expected an object with a name"),
    ("vae", {}, "it lacks 'name'"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_wrong_fields(folder: Path, key: str, value: Any, message: str) -> None:
    write(folder, INDEX | {key: value})
    with pytest.raises(DataError, match=message) as caught:
        open_latents(folder)
    assert str(caught.value).endswith("; run the same dtrain encode again")


@pytest.mark.parametrize("key", INDEX)
def test_missing_fields(folder: Path, key: str) -> None:
    write(folder, {name: value for name, value in INDEX.items() if name != key})
    if key == "classes":
        assert open_latents(folder).num_classes == 2
        return
    with pytest.raises(DataError, match=f"it lacks '{key}'; run the same dtrain encode again"):
        open_latents(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2, 4, 16]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_index_opens_or_is_one_sentence(folder: Path, data: st.DataObject) -> None:
    index = dict(INDEX)
    for key in data.draw(st.lists(st.sampled_from(sorted(INDEX)), min_size=1, max_size=3)):
        index[key] = data.draw(VALUES)
    content = bytearray(json.dumps(index).encode())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "index.json").write_bytes(content)
    with suppress(DataError):
        latents = open_latents(folder)
        moments = latents.moments(np.arange(len(latents)))
        assert moments.shape[1:] == (2 * latents.shape[0], *latents.shape[1:])
        assert len(latents.scale) == len(latents.bias) == latents.shape[0]
        assert np.isfinite(np.float32([*latents.scale, *latents.bias])).all()
        assert latents.labels is None or (len(latents.labels) == len(latents) and latents.labels.min() >= 0)
