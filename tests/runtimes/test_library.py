"""`drun.load` finds bundles as the command does, and opens sessions on a backend by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drun
from drun.errors import BackendUnavailable, BundleError, ConfigError

MakeBundle = Callable[..., Path]


def test_bundles_are_found_as_by_the_command(make_bundle: MakeBundle, tmp_path: Path, monkeypatch: Any) -> None:
    path = make_bundle("tiny")
    monkeypatch.chdir(tmp_path)
    assert drun.load("tiny").path == Path("bundles/tiny")
    assert drun.load().name == drun.load(str(path)).name == "tiny"
    with pytest.raises(BundleError, match=r"is not a bundle"):
        drun.load(tmp_path)


def test_a_session_says_what_it_cannot_open(make_bundle: MakeBundle) -> None:
    path = make_bundle(conditional=True)
    with pytest.raises(ConfigError, match=r"unknown backend 'tpu'"):
        drun.load(path).session("tpu")
    with pytest.raises((ConfigError, BackendUnavailable), match=r"--precision got int8"):
        drun.load(path).session("ort", precision="int8")
