"""What all tests share: one thread a process, and the commands, run in the process of the test."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

# The nets are tiny, and pytest-xdist already uses the cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports onnxruntime


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache and record of exports; the commands that tests start inherit theirs."""
    os.environ["DEXPORT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["DEXPORT_STATE"] = str(tmp_path_factory.mktemp("state"))


@dataclass(frozen=True)
class Outcome:
    code: int | str | None
    out: str
    err: str


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str], Callable[..., Outcome]]:
    """`in_process("drun")(*arguments)` runs a command in this process, in `tmp_path`."""

    def of(package: str) -> Callable[..., Outcome]:
        monkeypatch.chdir(tmp_path)
        main = import_module(f"{package}.cli").main

        def call(*arguments: object) -> Outcome:
            monkeypatch.setattr(sys, "argv", [package, *map(str, arguments)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as exit_:
                main()
            return Outcome(exit_.value.code or 0, *capsys.readouterr())

        return call

    return of
