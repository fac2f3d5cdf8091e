"""The step kernel is compared with the loop on the host, and timed beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.suites.kernel import Settings, measure, measuring
from dbench.suites.kernel.processor import HAS_COMPILER, Processor
from drun.console import silent
from drun.device import cuda

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")


def test_every_device_that_is_here_takes_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "why_none", lambda: "there is no NVIDIA GPU")
    result = measure(Settings(batch=2, channels=1, side=8, repeats=3), silent)
    assert [(row.name, row.unit) for row in result.rows] == [
        ("the step kernel on the processor, worst relative L2 to the host after 250 steps", ""),
        ("the loop on the host, a row with noise", "us"),
        ("the step kernel on the processor, a row with noise", "us"),
        ("the loop on the host, times the step kernel on the processor", "x"),
    ]
    agreement, *speeds = result.rows
    assert agreement.value is not None
    assert agreement.value <= 1e-6
    assert agreement.doubt is None
    assert all(row.value is not None and row.value > 0 for row in speeds)
    assert "the step kernel is not measured on a GPU: there is no NVIDIA GPU" in capsys.readouterr().err


def test_a_device_that_computes_something_else_is_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Processor):
        def update(self, walk: int, place: int, samples: int, numbers: int) -> None:
            if self.num_updates < 300:
                super().update(walk, place, samples, numbers)

    monkeypatch.setattr(measuring, "devices", lambda: {"it": Forgetful()})
    agreement = measure(Settings(batch=1, channels=1, side=4, repeats=2), silent).rows[0]
    assert agreement.value is not None
    assert agreement.value > 0.01
    assert agreement.doubt == "it is not what the host computes: 1e-05 is allowed"


def test_the_command(dbench: Callable[..., Any], tmp_path: Path) -> None:
    run = dbench("kernel", "--batch", 1, "--channels", 1, "--side", 4, "--repeats", 2, "--out", tmp_path / "out")
    assert run.code == 0, run.err
    assert "the step kernel on the processor, a row with noise" in run.out
    assert [path.suffix for path in sorted((tmp_path / "out").iterdir())] == [".json", ".md"]
