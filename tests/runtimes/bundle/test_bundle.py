"""Bundles that are right are read as written; each that is wrong is refused in one clear sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drun.bundle import artifact as artifacts
from drun.bundle import card as cards
from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.hashes import checked, seal
from drun.bundle.reading import Bundle
from drun.commands.info import info
from drun.errors import BundleError, UserError

MakeBundle = Callable[..., Path]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a bundle's manifest file."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    return write(path, manifest)


def write(path: Path, manifest: dict[str, Any]) -> Path:
    """Write a bundle's manifest file, sealed by its own hash."""
    fields = {key: value for key, value in manifest.items() if key != "sha256"}
    (path / "manifest.json").write_text(seal(fields))
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        bundles.read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


# --- what is right


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


def test_a_bundle_can_be_moved(make_bundle: MakeBundle, tmp_path: Path) -> None:
    make_bundle().rename(tmp_path / "elsewhere")
    bundle = bundles.read(tmp_path / "elsewhere")
    assert bundle.name == "elsewhere"
    with bundle.using(*bundle.manifest.artifacts[0].files) as paths:
        assert [path.name for path in paths] == ["denoiser.fp32.onnx"]


def test_a_link_inside_the_directory_is_fine(bundle: Bundle) -> None:
    (bundle.path / "golden.npz").rename(bundle.path / "real.npz")
    (bundle.path / "golden.npz").symlink_to("real.npz")
    with bundle.using(bundle.manifest.golden) as paths:
        assert [path.name for path in paths] == ["golden.npz"]


def test_two_artifacts_of_one_identity_are_refused(bundle: Bundle) -> None:
    first = bundle.manifest.artifacts[0]
    half = replace(first, precision="fp16", tolerance=artifacts.TOLERANCES["fp16"])
    others = (half, replace(first, format="trt"), replace(first, variant="split"))
    assert [one.id for one in (first, *others)] == ["onnx-fp32", "onnx-fp16", "trt-fp32", "onnx-fp32-split"]
    assert replace(bundle.manifest, artifacts=(first, *others)).artifacts[1:] == others
    with pytest.raises(BundleError, match=r"two artifacts are onnx-fp32, expected one of each format, precision"):
        replace(bundle.manifest, artifacts=(first, *others, replace(first, batch=(2, 2))))


def test_an_artifact_may_be_a_folder(bundle: Bundle) -> None:
    first = bundle.manifest.artifacts[0]
    files = tuple(artifacts.FileEntry(f"a.package/{name}", "1" * 64) for name in ("b", "c/d"))
    assert replace(first, root="a.package", files=files).root == "a.package"
    for root in ("a.pack", "a.package/c", "b"):
        with pytest.raises(BundleError, match=rf"has the file 'a.package/b' outside its folder '{root}'"):
            replace(first, root=root, files=files)


def test_the_newest_bundle(make_bundle: MakeBundle, tmp_path: Path) -> None:
    paths = [make_bundle(name) for name in ("b", "c", "a")]
    for age, path in enumerate(paths):
        os.utime(path / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "bundles" / "no bundle").mkdir()
    assert bundles.newest(tmp_path / "bundles") == paths[0]


# --- what is no bundle


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle under '.*bundles/': run 'dexport onnx CHECKPOINT'"):
        bundles.newest(tmp_path / "bundles")


@pytest.mark.parametrize("kind", ["missing", "folder", "file"])
def test_not_a_bundle(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    if kind == "file":
        path.write_text("")
    refused(path, r"is not a bundle: it has no manifest.json; make one with 'dexport onnx CHECKPOINT'")


@pytest.mark.parametrize("text", [b"", b"hello", b"{", b"[1]", b"3", b'"a"', b"null", b"\xff\xfe\x00", b"{}"])
def test_not_a_manifest(make_bundle: MakeBundle, text: bytes) -> None:
    path = make_bundle()
    (path / "manifest.json").write_bytes(text)
    refused(path, r"manifest.json' is not a manifest: .*; export again")


@pytest.mark.parametrize(
    ("version", "advice"), [(3, "upgrade drun"), (99, "upgrade drun"), (1, "export again"), ("x", "export again")]
)
def test_unknown_schema_version(make_bundle: MakeBundle, version: object, advice: str) -> None:
    path = edit(make_bundle(), lambda m: m.update(schema_version=version))
    refused(path, f"has schema version {version!r}, this drun reads 2: {advice}")


# --- wrong fields

OPTIONAL = {
    "artifacts", "classes", "guidance", "artifacts.0.parity", "classes.names", "data.range", "sampler.options",
    "schema_version", "sha256", "data.latent", "variance", "decoder", "trained_on", "artifacts.0.variant",
    "artifacts.0.root", "artifacts.0.derived_from",
}  # fmt: skip


def leaves(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of a manifest's fields; what the free-form parts hold is nobody's contract."""
    if name in ("model.config", "artifacts.0.target", "artifacts.0.producers", "artifacts.0.parity", "time"):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield f"{name}.{key}".removeprefix(".")
        yield from leaves(item, f"{name}.{key}".removeprefix("."))


def parent(manifest: Any, name: str) -> tuple[Any, Any]:
    """The container of a field and its key there."""
    *path, last = (int(key) if key.isdecimal() else key for key in name.split("."))
    for key in path:
        manifest = manifest[key]
    return manifest, last


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


def change(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        container, key = parent(manifest, name)
        container[key] = value

    return apply


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
        ("data.shape", [1, 8, 8], r"artifact has '(x|out)' as .*, the model \('float32', \('N', 1, 8, 8\)\)"),
        ("classes", {"count": 10, "null_label": 10}, r"artifact has 'y' as None, the model \('int64', \('N',\)\)"),
        ("guidance.channels", 99, r"guided channels got 99, expected 1 to 3"),
        ("model.parameters", -5, r"the number of parameters got -5, expected 0 or more"),
        ("model.parameters", True, r"manifest.model.parameters got True, expected a whole number"),
        ("model.name", ["a" * 1000], r"manifest.model.name got \['a{38}, expected text"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(make_bundle: MakeBundle, name: str, value: object, message: str) -> None:
    refused(edit(make_bundle(), change(name, value)), f"has a wrong or missing field: .*{message}")


# --- wrong files


def test_a_flipped_byte_is_found(bundle: Bundle) -> None:
    path = bundle.path / "denoiser.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"onnx' is damaged: sha256 got \w{12}…, expected \w{12}…; copy it or export"):
        bundle.check_files()


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    (bundle.path / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"lacks 'golden.npz': copy the whole directory or export again"):
        bundle.check_files()


@pytest.mark.parametrize("kind", ["up", "down and up", "absolute", "link to a file", "link to a folder"])
def test_a_path_that_leaves_the_directory_is_refused(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    (bundle.path / "file link").symlink_to(outside)
    (bundle.path / "folder link").symlink_to(tmp_path)
    path = {
        "up": "../../secret",
        "down and up": "a/../../../secret",
        "absolute": str(outside),
        "link to a file": "file link",
        "link to a folder": "folder link/secret",
    }[kind]
    with pytest.raises(BundleError, match=rf"names the file '{path}' outside its directory: refused"):
        bundle.locate(FileEntry(path, "0" * 64))


@pytest.mark.parametrize("path", ["", ".", "no/such/file"])
def test_a_path_that_is_no_file_is_refused(bundle: Bundle, path: str) -> None:
    with pytest.raises(BundleError, match=f"lacks '{path}'"):
        bundle.locate(FileEntry(path, "0" * 64))


def test_an_artifact_without_files_is_refused(make_bundle: MakeBundle) -> None:
    path = edit(make_bundle(), change("artifacts.0.files", []))
    refused(path, r"the onnx artifact has no files, expected one at least; export again")


def test_a_file_that_changes_while_it_is_opened_is_refused(bundle: Bundle) -> None:
    """By another file of its name, even if it is moved back, and by a write into it."""
    golden, other = bundle.path / "golden.npz", bundle.path / "other"
    content = golden.read_bytes()

    def swap() -> None:
        other.write_bytes(b"other")
        golden.rename(bundle.path / "kept")
        other.rename(golden)

    def swap_back() -> None:
        swap()
        (bundle.path / "kept").rename(golden)

    for change_file in (swap_back, lambda: golden.write_bytes(content), swap):
        with (
            pytest.raises(BundleError, match=r"golden\.npz' was changed while it was opened: nothing of it is used"),
            bundle.using(bundle.manifest.golden),
        ):
            change_file()


def test_files_that_are_not_listed_are_named(bundle: Bundle) -> None:
    assert bundle.unlisted() == []
    (bundle.path / "folder").mkdir()
    (bundle.path / "folder" / "more.data").write_text("")
    (bundle.path / "weights.onnx.data").write_text("")
    assert bundle.unlisted() == ["folder/more.data", "weights.onnx.data"]


def test_every_flipped_byte_of_a_bundle_is_found(make_bundle: MakeBundle) -> None:
    path = make_bundle(conditional=True)
    bundle = bundles.read(path)
    entries = [*bundle.manifest.artifacts[0].files, bundle.manifest.golden]
    for name, check in (
        ("manifest.json", lambda: bundles.read(path)),
        *((entry.path, partial(checked, path / entry.path, entry.sha256)) for entry in entries),
    ):
        content = (path / name).read_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            (path / name).write_bytes(damaged)
            with pytest.raises(BundleError):
                check()
        (path / name).write_bytes(content)
    bundle.check_files()


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
