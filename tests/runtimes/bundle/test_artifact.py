"""Artifacts are told apart by format, precision and variant, and keep to their folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from manifest_files import change, edit, refused

from drun.bundle import artifact as artifacts
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
