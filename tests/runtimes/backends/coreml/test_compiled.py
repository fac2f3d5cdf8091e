"""Compiled packages in the cache: whole or not there."""

from __future__ import annotations

from pathlib import Path

import macos
import pytest

from drun.backends.coreml.compiled import compiled
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable
from drun.mil.package import Package

pytestmark = pytest.mark.usefixtures("mac")
SETTING = {"unit": "cpu", "system": "24F74"}


def made(bundle: Bundle, setting: dict[str, str] = SETTING) -> Path:
    (artifact,) = bundle.manifest.artifacts
    return compiled(Package(bundle.path / artifact.root), artifact, "cpu", setting)


def test_it_is_made_once(bundle: Bundle) -> None:
    path = made(bundle)
    assert path == made(bundle)
    assert (path / "package" / "Manifest.json").is_file()
    assert made(bundle, SETTING | {"system": "25A1"}) != path
    assert len(macos.compilations) == 2


def test_a_failure_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> str:
        raise RuntimeError("compiler error")

    with monkeypatch.context() as patch:
        patch.setattr(macos.Proxy, "compileModel", staticmethod(fails))
        with pytest.raises(BackendUnavailable, match=r"Core ML does not compile '.*mlpackage': compiler error"):
            made(bundle)
    assert made(bundle).is_dir()


def test_another_process_that_was_faster(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(bundle)
    original = Path.is_dir
    answers = iter([False])
    monkeypatch.setattr(Path, "is_dir", lambda self: next(answers, True) if self == path else original(self))
    assert made(bundle) == path
    assert len(macos.compilations) == 2
