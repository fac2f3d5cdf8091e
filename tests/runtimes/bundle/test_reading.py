"""A bundle that another process exports to while it is read."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from manifest_files import edit, refused

from drun.bundle import reading as bundles
from drun.bundle.artifact import FileEntry
from drun.bundle.hashes import checked
from drun.bundle.reading import Bundle
from drun.errors import BundleError


def test_what_is_opened_is_the_old_bundle_or_the_new_one(bundle: Bundle, tmp_path: Path) -> None:
    def export(change: Callable[[Path], object]) -> None:
        new = shutil.copytree(bundle.path, tmp_path / "new")
        change(new)
        bundle.path.rename(tmp_path / f"old{len(list(tmp_path.iterdir()))}")
        new.rename(bundle.path)

    with bundle.using(bundle.manifest.golden) as (path,):
        export(lambda new: (new / "another").touch())
    assert path.is_file()
    again = pytest.raises(BundleError, match=r"was exported anew while it was opened: run the command again")
    with again, bundle.using(bundle.manifest.golden):
        export(lambda new: (new / "golden.npz").write_bytes(b"other"))


MakeBundle = Callable[..., Path]


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


def test_the_newest_bundle(make_bundle: MakeBundle, tmp_path: Path) -> None:
    paths = [make_bundle(name) for name in ("b", "c", "a")]
    for age, path in enumerate(paths):
        os.utime(path / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "bundles" / "no bundle").mkdir()
    assert bundles.newest(tmp_path / "bundles") == paths[0]


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
