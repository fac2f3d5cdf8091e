"""The options of every command, and errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from drun.console import answer, progress, say, warn
from drun.console.app import new_app, run_app
from drun.errors import BundleError, Interrupted, ParityError

PACKAGES = ("drun", "dtrain", "dexport", "dbench")
SHARED = {"--quiet", "--json", "--debug", "--version"}
STOPPED = "error: interrupted: the same command goes on from what was finished\n"


def stop(error: BaseException) -> Callable[[], Any]:
    def app() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BundleError("no bundle"), 1, "error: no bundle\n"),
        (ParityError("too far"), 3, "error: too far\n"),
        (
            OSError(28, "No space left on device", "x.png"), 1,
            "error: No space left on device at 'x.png': free some space; what was finished before is kept\n",
        ),
        (
            OSError(24, "Too many open files"), 1,
            "error: Too many open files: raise the limit of open files, such as by ulimit -n 4096\n",
        ),
        (MemoryError(), 1, "error: out of memory: lower the batch size\n"),
        (BundleError("a \x1b[31mred name"), 1, "error: a \\x1b[31mred name\n"),
        (Interrupted("stopped: go on with --resume"), 130, "error: stopped: go on with --resume\n"),
        (SystemExit(143), 143, STOPPED),
        (BundleError("two\n  lines"), 1, "error: two lines\n"),
        (KeyboardInterrupt(), 130, STOPPED),
        (SystemExit(130), 130, STOPPED),
        (SystemExit(2), 2, ""),
        (SystemExit(0), 0, ""),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_a_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["drun"])
    with pytest.raises(SystemExit) as exit_:
        run_app(stop(error))
    assert exit_.value.code == code
    assert capsys.readouterr() == ("", message)


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["drun"])
    with pytest.raises(ZeroDivisionError):
        run_app(lambda: 1 / 0)


# ---- the options of every command -----------------------------------------------------------------------


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """`tool(*words)` runs an app of two commands, `work` and `fail`: exit code, stdout, stderr."""
    app = new_app("tool", "Work or fail.")

    @app.command()
    def work() -> None:
        """Work."""
        with progress() as report:
            report("working", 1, 1)
        say("done")
        warn("odd")
        answer({"count": 1})

    @app.command()
    def fail() -> None:
        """Fail."""
        raise ParityError("too far")

    def run(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["tool", *words])
        with pytest.raises(SystemExit) as exit_:
            run_app(app)
        return (exit_.value.code or 0, *capsys.readouterr())

    return run


PROGRESS, ODD, DOCUMENT = "working …\n", "warning: odd\n", '{\n  "count": 1\n}\n'


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        ([], "done\n", PROGRESS + ODD),
        (["--quiet"], "", ODD),
        (["--json"], DOCUMENT, PROGRESS + ODD),
        (["--json", "--quiet"], DOCUMENT, ODD),
    ],
)
@pytest.mark.parametrize("is_behind", [False, True])
def test_an_option_stands_before_or_behind_the_command(
    tool: Callable[..., Any], words: list[str], out: str, err: str, is_behind: bool
) -> None:
    assert tool(*(["work", *words] if is_behind else [*words, "work"])) == (0, out, err)


def test_options_on_both_sides_add_up(tool: Callable[..., Any]) -> None:
    assert tool("--json", "work", "--quiet") == (0, DOCUMENT, ODD)
    assert tool("work") == (0, "done\n", PROGRESS + ODD)  # and the next command knows nothing of them


@pytest.mark.parametrize("words", [["fail"], ["--json", "fail"], ["fail", "--quiet"], ["fail", "--json", "--quiet"]])
def test_an_error_is_never_silent(tool: Callable[..., Any], words: list[str]) -> None:
    assert tool(*words) == (3, "", "error: too far\n")


@pytest.mark.parametrize("words", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_raises(monkeypatch: pytest.MonkeyPatch, tool: Callable[..., Any], words: list[str]) -> None:
    with pytest.raises(ParityError, match="too far"):
        tool(*words)


def test_a_bare_command_shows_its_help(tool: Callable[..., Any]) -> None:
    code, out, err = tool()
    assert (code, "Usage: " in out + err, "Work or fail." in out + err) == (2, True, True)
    assert tool("-h") == tool("--help")
    assert tool("work", "-h")[:2] == tool("work", "--help")[:2]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_of_every_app_has_them(package: str) -> None:
    app = get_command(import_module(f"{package}.cli").app)
    commands = {package: app, **app.commands}  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert {flag for option in command.params for flag in option.opts} >= SHARED, name
    assert {"--install-completion", "--show-completion"} <= {flag for option in app.params for flag in option.opts}


@pytest.mark.parametrize("package", PACKAGES)
def test_versions_are_those_of_the_distribution(package: str, tmp_path: Path) -> None:
    """Of `--version`, before and behind a command, of `python -m`."""
    name = {"drun": "info", "dtrain": "recipes", "dexport": "onnx", "dbench": "latency"}[package]
    for words in ([], [name]):
        command = [sys.executable, "-m", package, *words, "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == f"{package} {version('dexport')}\n"


def complete(package: str, words: str, cwd: Path) -> list[str]:
    """What bash offers for the last of some words."""
    environment = os.environ | {
        f"_{package.upper()}_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    code = f"import sys; sys.argv[0] = '{package}'; from {package}.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("drun inf", {"info"}),
        ("drun info --js", {"--json"}),
        ("drun --st", {"--steps", "--state-dtype"}),
        ("dtrain re", {"recipes"}),
        ("dexport on", {"onnx"}),
        ("dbench qua", {"quality"}),
    ],
)
def test_shells_complete(words: str, offered: set[str], tmp_path: Path) -> None:
    assert set(complete(words.split()[0], words, tmp_path)) == offered


def test_the_shell_is_told_how_to_complete(tmp_path: Path) -> None:
    """What `--install-completion` writes, for the shell that runs the command."""
    code = "import sys; sys.argv[0] = 'drun'; from drun.cli import main; main()"
    command = ["bash", "-c", f'"{sys.executable}" -c "{code}" "$0"; true', "--show-completion"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "_DRUN_COMPLETE=complete_bash" in shown
    home = os.environ | {"HOME": str(tmp_path)}
    command[-1] = "--install-completion"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=home, check=True)
    assert "bash completion installed" in done.stdout, done.stderr
    assert "drun" in (tmp_path / ".bashrc").read_text()
