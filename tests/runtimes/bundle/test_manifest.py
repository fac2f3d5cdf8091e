"""Manifests that are right are read as written; each that is wrong is refused in one clear sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_files import change, edit, parent, refused, write

from drun.bundle import card as cards
from drun.bundle import reading as bundles
from drun.commands.info import info
from drun.errors import BundleError, UserError

MakeBundle = Callable[..., Path]


@pytest.mark.parametrize("conditional", [False, True])
def test_a_manifest_is_read_as_it_was_written(make_bundle: MakeBundle, conditional: bool) -> None:
    bundle = bundles.read(make_bundle(conditional=conditional))
    manifest = bundle.manifest
    assert json.loads(manifest.to_json()) == json.loads((bundle.path / "manifest.json").read_text())
    assert manifest.data.shape == (3, 8, 8)
    assert manifest.artifacts[0].batch == (1, 8)
    assert manifest.artifacts[0].io[0].shape == ("N", 3, 8, 8)
    assert manifest.classes == (cards.Classes(10, 10) if conditional else None)
    card = manifest.card
    assert card.process.to_dict() == manifest.process
    assert (card.prediction, card.data, card.classes, card.sampler) == (
        "noise", manifest.data, manifest.classes, manifest.sampler
    )  # fmt: skip
    assert (card.output_shape, card.can_guide, card.guidance.null_label) == ((3, 8, 8), conditional, 10 * conditional)


def test_fields_with_defaults_may_be_left_out(make_bundle: MakeBundle) -> None:
    def shorten(manifest: dict[str, Any]) -> None:
        for name in ("artifacts", "classes", "guidance"):
            del manifest[name]
        del manifest["data"]["range"]

    manifest = bundles.read(edit(make_bundle(), shorten)).manifest
    assert (manifest.artifacts, manifest.classes, manifest.guidance) == ((), None, {"channels": None})
    assert manifest.data.range == (-1, 1)


def test_grey_images_are_images(make_bundle: MakeBundle) -> None:
    bundle = bundles.read(make_bundle(data=cards.StateSpace("pixel", (1, 8, 8)), artifacts=()))
    assert bundle.manifest.data.shape == (1, 8, 8)


def test_whole_numbers_may_stand_for_floats(make_bundle: MakeBundle) -> None:
    assert bundles.read(edit(make_bundle(), lambda m: m["data"].update(range=[-1, 1]))).manifest.data.range == (-1, 1)


OPTIONAL = {
    "artifacts", "classes", "guidance", "artifacts.0.parity", "classes.names", "data.range", "sampler.options",
    "schema_version", "sha256", "data.latent", "variance", "decoder", "trained_on", "artifacts.0.variant",
    "artifacts.0.root", "artifacts.0.derived_from", "artifacts.0.conditioning",
    "artifacts.0.tolerance.least_db",
}  # fmt: skip


def leaves(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of a manifest's fields; what the free-form parts hold is nobody's contract."""
    if name in ("model.config", "artifacts.0.target", "artifacts.0.producers", "artifacts.0.parity", "time"):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield f"{name}.{key}".removeprefix(".")
        yield from leaves(item, f"{name}.{key}".removeprefix("."))


@pytest.fixture
def conditional_bundle(make_bundle: MakeBundle) -> tuple[Path, dict[str, Any]]:
    path = make_bundle(conditional=True)
    return path, json.loads((path / "manifest.json").read_text())


def test_every_missing_field_is_refused(conditional_bundle: tuple[Path, dict[str, Any]]) -> None:
    path, manifest = conditional_bundle
    names = [name for name in leaves(manifest) if not name.split(".")[-1].isdecimal() and name not in OPTIONAL]
    assert len(names) > 35
    for name in names:
        container, key = parent(manifest, name)
        value = container.pop(key)
        write(path, manifest)
        refused(path, rf"has a wrong or missing field: .*\b{key}\b.*; export again")
        container[key] = value


def test_every_field_of_another_type_is_refused(conditional_bundle: tuple[Path, dict[str, Any]]) -> None:
    path, manifest = conditional_bundle
    for name in leaves(manifest):
        if name in ("schema_version", "sha256"):
            continue
        container, key = parent(manifest, name)
        value = container[key]
        container[key] = 7 if isinstance(value, str | list | dict) else "seven"
        if ".io." in name and ".shape." in name:
            container[key] = 0.5
        write(path, manifest)
        refused(path, "has a wrong or missing field: .*; export again")
        container[key] = value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from([-1, 0, 1, 10**9, 2**63, 10**30, 1e308, "a\0b", "../x", "/etc/passwd", "onnx", "fp32"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("data.shape", [3, 8], r"manifest.data.shape has 2 values, expected 3"),
        ("data.shape", [3, 8, 0], r"image shape \(3, 8, 0\) has a side below 1"),
        ("data.shape", "wide", r"manifest.data.shape got 'wide', expected list"),
        ("data.colour", "rgb", r"manifest.data has an unknown field 'colour', expected space, shape, range, latent"),
        ("artifacts.0.batch", [8, 1], r"batch got 8 to 1, expected sizes"),
        ("artifacts.0.tolerance.call", "tight", r"artifacts\[0\].tolerance.call got 'tight', expected a number"),
        ("model.checkpoint", {"step": 1}, r"manifest.model.checkpoint lacks file, settings, sha256, weights"),
        ("model.parameters", None, r"manifest.model.parameters got None, expected a whole number"),
        ("process.schedule", "sine", r"unknown noise schedule 'sine'"),
        ("process.num_timesteps", 20, r"schedule 'linear' with 20 timesteps has a beta of 1, expected all in"),
        ("process.kind", "bridge", r"unknown process kind 'bridge'"),
        ("process.num_timesteps", 400_000_000, r"number of timesteps got 400000000, expected 1 to 100,000"),
        ("artifacts.0.tolerance.call", 1e-4, r"tolerance got 0.0001 a call and .*, expected at most 1e-05 and 0.001"),
        ("artifacts.0.tolerance.call", 0, r"tolerance got 0 and 0.0001, expected finite and above 0"),
        ("artifacts.0.tolerance.trajectory", 10**400, r"trajectory got a huge number, expected a finite number"),
        ("artifacts.0.precision", "fp3", r"precision got 'fp3', expected one of fp32, fp16, bf16, int8"),
        ("artifacts.0.batch", [1, 2**31], r"batch got 1 to 2147483648, expected sizes from 1 to 65,536"),
        ("data.shape", [3, 65536, 65536], r"image shape .* has more than 268,435,456 numbers"),
        ("data.space", "sound", r"space got 'sound', expected pixel or latent"),
        ("data.latent", {"vae": "x", "scale": [1.0] * 5, "bias": [0.0] * 3}, r"scale has 5 values, expected 3"),
        ("classes", {"count": 10**9, "null_label": None}, r"number of classes got 1000000000, expected 1 to"),
        ("classes", {"count": 10, "null_label": 99}, r"the null label got 99, expected 0 to 10"),
        ("classes", {"count": 2, "null_label": None, "names": ["a"]}, r"2 classes have 1 names, expected one each"),
        (
            "trained_on", {"source": "", "num_images": 0, "image_size": 8, "channels": 3, "fingerprint": ""},
            r"trained_on got 0 images, 8 pixels a side, 3 channels, expected at least 1 each",
        ),
        ("prediction", "future", r"prediction got 'future', expected one of noise, x0, velocity, score"),
        ("sampler.name", "plms", r"unknown sampler 'plms'"),
        ("sampler.options", {"eta": {}}, r"option '?eta'? .*"),
        ("artifacts.0.batch", [65536, 65536], r"batch got 65536 to 65536, expected sizes"),
        ("data.shape", [1, 8, 8], r"artifact has 'x' as float32 .*, the model 'x' as float32 \('N', 1, 8, 8\)"),
        ("classes", {"count": 10, "null_label": 10}, r"artifact has 'out' as .*, the model 'y' as int64 \('N',\)"),
        ("guidance.channels", 99, r"guided channels got 99, expected 1 to 3"),
        ("model.parameters", -5, r"the number of parameters got -5, expected 0 or more"),
        ("model.parameters", True, r"manifest.model.parameters got True, expected a whole number"),
        ("model.name", ["a" * 1000], r"manifest.model.name got \['a{38}, expected text"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(make_bundle: MakeBundle, name: str, value: object, message: str) -> None:
    refused(edit(make_bundle(), change(name, value)), f"has a wrong or missing field: .*{message}")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_manifest_of_anything_is_read_or_refused(pristine_bundle: Path, data: st.DataObject) -> None:
    """Sealed as if it were meant so."""
    path = pristine_bundle.with_name("changed")
    shutil.copytree(pristine_bundle, path, dirs_exist_ok=True)
    manifest = json.loads((path / "manifest.json").read_text())
    names = [*leaves(manifest), "time", "model.config", "artifacts.0.parity", "artifacts.0.target"]
    for name in data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=3)):
        with suppress(KeyError, IndexError, TypeError):
            container, key = parent(manifest, name)
            container[key] = data.draw(ANYTHING)
    write(path, manifest)
    with suppress(BundleError):
        bundle = bundles.read(path)
        with suppress(UserError):
            info(path)
        assert bundle.manifest.card.process
