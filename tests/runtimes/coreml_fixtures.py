"""A Mac that is none, and a bundle with a Core ML package."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import macos
import pytest
from coreml_bundles import add_package
from mil_programs import quiet

from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle


@pytest.fixture(scope="module")
def written(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreml") / "b"
    shutil.copytree(pristine_bundle, folder)
    add_package(folder, keep=False)
    return folder


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Bundle:
    return bundles.read(shutil.copytree(written, tmp_path / "b"))


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process and its children run on a Mac, with a cache of its own."""
    with quiet():
        macos.install(monkeypatch.setattr, monkeypatch.setitem)
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(macos, "compilations", [])
    site = tmp_path / "site"
    site.mkdir()
    tests = Path(macos.__file__).parent
    (site / "sitecustomize.py").write_text(
        f"import logging, sys\nlogging.getLogger('coremltools').setLevel('ERROR')\nsys.path.append({str(tests)!r})\n"
        "import macos\nmacos.install()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
