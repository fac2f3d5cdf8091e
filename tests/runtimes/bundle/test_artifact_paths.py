"""An artifact's files lie within the bundle, each under one spelling of its path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drun.bundle import reading as bundles
from drun.errors import BundleError


@pytest.mark.parametrize("spelling", ["{folder}/{name}", "./{name}", "x/../{name}", "x//{name}", "{name}/", "", "."])
def test_another_spelling_is_refused(make_bundle: Callable[..., Path], spelling: str) -> None:
    bundle = bundles.read(make_bundle())
    artifact = bundle.manifest.artifacts[0]
    path = spelling.format(folder=bundle.path.resolve(), name=artifact.files[0].path)
    with pytest.raises(BundleError, match=r"^the artifact onnx-fp32 has the file '.*, expected a path within"):
        replace(artifact, files=(replace(artifact.files[0], path=path),))


def test_folders_are_allowed(make_bundle: Callable[..., Path]) -> None:
    artifact = bundles.read(make_bundle()).manifest.artifacts[0]
    files = (replace(artifact.files[0], path="a.package/b/c.onnx"),)
    assert replace(artifact, files=files, root="a.package").files == files
