"""The step kernel is timed beside the loop on the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.suites.gpu import Settings, measure
from dbench.suites.gpu.processor import HAS_COMPILER
from drun.console import silent
from drun.device import cuda

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")


def test_every_device_that_is_here_takes_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "why_none", lambda: "there is no NVIDIA GPU")
    result = measure(Settings(batch=2, channels=1, side=8, repeats=3), silent)
    assert [(row.name, row.unit) for row in result.rows] == [
        ("the loop on the host, a row with noise", "us"),
        ("the step kernel on the processor, a row with noise", "us"),
        ("the loop on the host, times the step kernel on the processor", "x"),
    ]
    assert all(row.value is not None and row.value > 0 for row in result.rows)
    assert "the step kernel is not timed on a GPU: there is no NVIDIA GPU" in capsys.readouterr().err


def test_the_command(dbench: Callable[..., Any], tmp_path: Path) -> None:
    run = dbench("gpu", "--batch", 1, "--channels", 1, "--side", 4, "--repeats", 2, "--out", tmp_path / "out")
    assert run.code == 0, run.err
    assert "the step kernel on the processor, a row with noise" in run.out
    assert [path.suffix for path in sorted((tmp_path / "out").iterdir())] == [".json", ".md"]
