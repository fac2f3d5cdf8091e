"""ONNX Runtime's own reports, which keep an identifier in the user's home and send it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

OPENED = """
import sys

import drun

drun.load(sys.argv[1]).session("ort").sample(1, steps=2)
"""


def test_it_reports_nothing_to_anyone(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    unset = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"HOME": str(home)}
    command = [sys.executable, "-c", OPENED, str(make_bundle())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert [*home.rglob("*")] == []
