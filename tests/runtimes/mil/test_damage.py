"""Programs of which some messages are others: they are computed, or refused in one sentence."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from coreml_bundles import ROOT, SHAPE, add_package, network

from drun.errors import BundleError
from drun.mil.executor import Executor
from drun.mil.package import Package

NUM_PROGRAMS = 150


@pytest.fixture(scope="module")
def folder(pristine_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "b"
    shutil.copytree(pristine_bundle, path)
    add_package(path, (1,), denoiser=network)
    return path / ROOT


def refusal(folder: Path) -> str | None:
    """The message of the error; None if it is computed."""
    x, t, y = np.ones((1, *SHAPE), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    try:
        Executor(Package(folder)).run({"x": x, "t": t, "y": y})
    except BundleError as error:
        return str(error)
    return None


def test_other_messages_are_computed_or_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "fuzz")
    from mutate import other_program

    path = Package(folder).path
    whole, draw = path.read_bytes(), random.Random(0)
    assert refusal(folder) is None
    found = []
    for _ in range(NUM_PROGRAMS):
        path.write_bytes(other_program(whole, draw))
        found.append(refusal(folder))
    refused = [one for one in found if one is not None]
    assert all(one.strip() and "\n" not in one for one in refused)
    assert NUM_PROGRAMS // 10 < len(refused) < NUM_PROGRAMS * 9 // 10
