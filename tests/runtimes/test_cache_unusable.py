"""Where the system refuses the cache, one sentence says so, and OpenVINO does without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from openings import on

from drun import cache
from drun.backends.openvino import compiler
from drun.bundle import reading as bundles
from drun.errors import UserError

KEY = "0" * 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_that_cannot_be_written_anew(folder: Path) -> None:
    (folder / KEY / cache.RECORD).mkdir(parents=True)  # which cannot be unlinked, whoever the user is
    folder.chmod(0o700)
    with pytest.raises(UserError, match=r"^cannot use the cache '.*': .*; set DEXPORT_CACHE to another"):
        cache.fetch(KEY, "a", "text", 1, lambda path: path.write_text("a"), Path.read_text)


def test_openvino_does_without(folder: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(*_: object) -> str:
        return KEY

    monkeypatch.setattr(compiler.Compiler, "_key", no_key)
    (folder / KEY / cache.RECORD).mkdir(parents=True)
    folder.chmod(0o700)
    bundle = bundles.read(make_bundle())
    x = np.ones((1, *bundle.manifest.data.shape), np.float32)
    with on("openvino", bundle) as opened:
        assert opened.call(x, 50.0, None).shape == x.shape
