"""Artifacts are told apart by format, precision and variant, and keep to their folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manifest_files import change, edit, refused
from split_bundles import ROWS, add_split

from drun.bundle import artifact as artifacts
from drun.bundle.manifest import DecoderEntry
from drun.bundle.reading import Bundle
from drun.errors import BundleError

MakeBundle = Callable[..., Path]


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


def test_an_artifact_without_files_is_refused(make_bundle: MakeBundle) -> None:
    path = edit(make_bundle(), change("artifacts.0.files", []))
    refused(path, r"the onnx artifact has no files, expected one at least; export again")


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3), (3, 0, 1, 2), (0, 1, 2), (0, 0, 1, 2, 3)])
def test_inputs_in_another_order_are_refused(make_bundle: MakeBundle, order: tuple[int, ...]) -> None:
    """Runtimes bind arrays by their place: times would be taken for labels."""

    def reorder(manifest: dict[str, Any]) -> None:
        artifact = manifest["artifacts"][0]
        artifact["io"] = [artifact["io"][place] for place in order]

    refused(edit(make_bundle(conditional=True), reorder), r"the onnx artifact has .*, the model '.*; export again$")


# ---- two graphs -----------------------------------------------------------------------------------------


def test_the_two_graphs_of_an_artifact(make_bundle: MakeBundle) -> None:
    split = add_split(make_bundle(conditional=True), batch=(2, 4)).manifest.artifacts[1]
    half = replace(split, precision="bf16", tolerance=artifacts.TOLERANCES["bf16"])
    conditioning, denoiser = half.stages()
    c = artifacts.Tensor("c", "float32", ("N", 2), "what the blocks need of time and label")
    x, t, y, out = split.io
    assert (conditioning.io, denoiser.io) == ((t, y, c), (x, c, out))
    assert (conditioning.precision, denoiser.precision) == ("fp32", "bf16")
    assert conditioning.tolerance == artifacts.TOLERANCES["fp32"]
    assert (conditioning.batch, denoiser.batch) == ((ROWS, ROWS), (2, 4))
    names = [[entry.path for entry in stage.files] for stage in (conditioning, denoiser)]
    assert names == [["conditioning.fp32-split.onnx"], ["denoiser.fp32-split.onnx"]]
    assert [stage.conditioning for stage in (conditioning, denoiser)] == [None, None]


def test_each_graph_may_be_a_folder(bundle: Bundle) -> None:
    first = bundle.manifest.artifacts[0]
    files = tuple(artifacts.FileEntry(path, "1" * 64) for path in ("a.package/b", "c.package/d", "c.package/e"))
    of_c = artifacts.Conditioning(("c.package/d", "c.package/e"), 4, (1, 8), "c.package")
    both = replace(first, root="a.package", files=files, conditioning=of_c)
    conditioning, denoiser = both.stages()
    assert (conditioning.root, len(conditioning.files)) == ("c.package", 2)
    assert (denoiser.root, len(denoiser.files)) == ("a.package", 1)
    with pytest.raises(BundleError, match=r"has the file 'c.package/d' outside its folder 'a.package'"):
        replace(both, conditioning=replace(of_c, root="a.package"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("files", [], r"the conditioning of onnx-fp32-split got the files \(\), expected some of denoiser"),
        (
            "files",
            ["denoiser.fp32.onnx"],
            r"got the files \('denoiser.fp32.onnx',\), expected some of denoiser.fp32",
        ),
        ("files", ["conditioning.fp32-split.onnx"] * 2, r"the conditioning of onnx-fp32-split got the files"),
        ("files", ["conditioning.fp32-split.onnx", "denoiser.fp32-split.onnx"], r"onnx-fp32-split got the files"),
        ("files", ["../a"] * 1000, r"the conditioning of onnx-fp32-split got the files .{80}, expected some"),
        ("files", 7, r"conditioning.files got 7, expected list"),
        ("width", 0, r"the conditioning of onnx-fp32-split got the width 0, expected 1 to 16,777,216"),
        ("width", 2**40, r"got the width 1099511627776, expected 1 to"),
        ("batch", [0, 4], r"batch got 0 to 4, expected sizes from 1 to 65,536, the smaller first"),
        ("batch", [65536, 65536], r"batch got 65536 to 65536"),
        ("root", "a", r"has the file 'conditioning.fp32-split.onnx' outside its folder 'a'"),
        ("root", "..", r"has the file 'conditioning.fp32-split.onnx' outside its folder '..'"),
    ],
)
def test_a_wrong_conditioning_is_refused(make_bundle: MakeBundle, name: str, value: object, message: str) -> None:
    path = make_bundle()
    add_split(path)
    refused(edit(path, change(f"artifacts.1.conditioning.{name}", value)), message)


def test_a_decoder_has_one_graph(bundle: Bundle) -> None:
    first = bundle.manifest.artifacts[0]
    files = tuple(artifacts.FileEntry(name, "1" * 64) for name in ("a", "b"))
    two = replace(first, files=files, conditioning=artifacts.Conditioning(("b",), 4, (1, 8)))
    with pytest.raises(BundleError, match="the decoder onnx-fp32 has a conditioning graph, expected none"):
        DecoderEntry((3, 8, 8), (two,))
