"""Bundles with a PyTorch program, to read and to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from programs import Made, gaussian

from drun.bundle import reading as bundles


@pytest.fixture(scope="module")
def pristine(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A conditional bundle with a program of batches of 1 to 64, which tests do not change."""
    return gaussian(shutil.copytree(pristine_bundle, tmp_path_factory.mktemp("pt2") / "tiny"))


@pytest.fixture
def made(pristine: Made, tmp_path: Path) -> Made:
    """A copy to change."""
    bundle = bundles.read(shutil.copytree(pristine.bundle.path, tmp_path / "bundles" / "tiny"))
    return Made(bundle, bundle.path / pristine.path.name)
