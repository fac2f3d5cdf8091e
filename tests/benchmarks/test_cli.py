"""The command: its help is quick, its suites are files, its errors are one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from dbench import cli, commands, suites
from dbench.core.options import argument, declared, option
from drun.console.app import new_app


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, dbench.cli; print(sorted({'numpy', 'torch', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", suites.names())
def test_a_suites_command_is_what_its_settings_declare(name: str) -> None:
    command = get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    suite = suites.load(name)
    shown = {parameter.name: parameter for parameter in command.params}
    given = {field.name: how for field in fields(suite.Settings) if (how := declared(field))}
    assert command.help == (suite.measure.__doc__ or "").partition("\n")[0]
    assert {"out", *given} <= set(shown)
    for field in fields(suite.Settings):
        if field.name in given:
            parameter = shown[field.name]
            assert parameter.required == (field.default is MISSING)
            assert parameter.help == given[field.name].help
            assert parameter.multiple == (isinstance(field.default, tuple) and not given[field.name].parse)


@dataclass(frozen=True)
class EveryKind:
    what: Path = argument("A folder.")
    counts: tuple[int, ...] = option((), "Counts.", flag="--count", least=2)
    pair: tuple[int, ...] = option((1, 2), "Two.", parse=lambda text: tuple(map(int, text.split(","))))
    switch: bool = option(False, "A switch.")
    word: str | None = option(None, "A word.", metavar="WORD")
    inner: int = 7


def parsed(*arguments: str) -> EveryKind | int | str | None:
    """What the settings hold after a command line; the exit code of a wrong one."""
    found: list[EveryKind] = []
    suite = ModuleType("kinds")
    suite.Settings, suite.measure = EveryKind, test_help_imports_nothing_heavy  # type: ignore[attr-defined]
    app = new_app("kinds", "Kinds.")
    app.command("kinds")(cli.command_of("kinds", suite))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "measure", lambda name, out, **values: found.append(EveryKind(**values)))
        with pytest.raises(SystemExit) as exit_:
            get_command(app).main(["kinds", *arguments])
    return found[0] if found else exit_.value.code


def test_every_kind_of_field_becomes_what_the_settings_hold() -> None:
    assert parsed("here") == EveryKind(Path("here"))
    words = ("here", "--count", "2", "--count", "3", "--pair", "5,6", "--switch", "--word", "x")
    assert parsed(*words) == EveryKind(Path("here"), (2, 3), (5, 6), True, "x")
    for wrong in (("here", "--count", "1"), (), ("here", "--inner", "1"), ("here", "--no-switch")):
        assert parsed(*wrong) == 2


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
