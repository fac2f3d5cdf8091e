"""The command: its help is quick, its suites are files, its errors are one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dbench import cli, suites


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, dbench.cli; print(sorted({'numpy', 'torch', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_every_suite_is_a_file_with_a_command() -> None:
    assert {"latency", "quality"} <= set(suites.names())
    commands = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    for name in suites.names():
        suite = suites.load(name)
        assert is_dataclass(suite.Settings)
        assert callable(suite.measure)
        assert name in commands


@pytest.mark.parametrize("name", suites.names())
def test_the_defaults_are_those_of_the_settings(name: str) -> None:
    """`cli` states them once more, for importing a suite would make every --help slow."""
    command = get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    shown = {option.name: option.default for option in command.params}
    names = {"backends": "backend", "assignments": "set_", "repa_assignments": "repa_set"}
    checked = 0
    for field in fields(suites.load(name).Settings):
        option = names.get(field.name, field.name)
        if field.default is MISSING or option not in shown:
            continue
        default = field.default if option != "seeds" else ",".join(map(str, field.default))
        assert shown[option] == default or (not default and not shown[option]), field.name
        checked += 1
    assert checked >= 1


def test_no_arguments_show_the_commands(dbench: Callable[..., Any]) -> None:
    done = dbench("--help")
    assert done.code == 0
    assert all(name in done.out for name in ("latency", "quality", "report"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latency", "nowhere"), "is not a bundle"),
        (("quality", "nowhere"), "no samples at"),
        (("report", "page.html", "--bundle", "."), "is not a bundle"),
    ],
)
def test_errors_are_one_line(dbench: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    done = dbench(*arguments)
    assert done.code == 1
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert message in line
    assert not list(Path().iterdir())
