"""What is printed, under each of the options of every command."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from drun.console import answer, log_level, put, say, warn
from drun.console.output import OUTPUT, command_output
from drun.plain import plain


@dataclass(frozen=True)
class Check:
    name: str
    psnr_db: float
    shape: tuple[int, ...]


def test_lines_for_people_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("two\nlines \x1b[2J")
    warn("a \x07 bell\nrings")
    assert capsys.readouterr() == ("two\nlines \\x1b[2J\n", "warning: a \\x07 bell rings\n")


@pytest.mark.parametrize(
    ("quiet", "json", "printed"),
    [(False, False, ["prose", "recipe"]), (True, False, ["recipe"]), (False, True, ["{}"]), (True, True, ["{}"])],
)
def test_stdout_under_each_option(
    quiet: bool, json: bool, printed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with command_output() as output:
        output.quiet, output.json = quiet, json
        say("prose")
        put("recipe")
        warn("odd")
        answer({})
    out, err = capsys.readouterr()
    assert (out.split(), err) == (printed, "warning: odd\n")


def test_a_mode_ends_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with command_output() as output:
            output.quiet = output.json = output.debug = True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()
    assert (OUTPUT.quiet, OUTPUT.json, OUTPUT.debug) == (False, False, False)
    say("heard again")
    assert capsys.readouterr().out == "heard again\n"


def test_a_document_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where JSON does not know a value: the PSNR of two equal arrays is infinite."""
    with command_output() as output:
        output.json = True
        answer({"path": Path("a") / "b", "checks": [Check("call", float("inf"), (3, 8))], "loss": float("nan")})
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "path": "a/b",
        "checks": [{"name": "call", "psnr_db": None, "shape": [3, 8]}],
        "loss": None,
    }


def test_plain_keeps_what_json_knows() -> None:
    value = {"a": [1, 1.5, True, None, "text"], "b": {"c": [float("-inf")]}}
    assert plain(value) == value | {"b": {"c": [None]}}
    assert plain(Check) is Check  # a class is not a value


def test_the_log_of_a_library_is_silent_for_a_while_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a.library")
    with log_level("a.library", logging.ERROR):
        logger.warning("hidden")
        logger.error("shown")
    logger.warning("shown again")
    assert caplog.messages == ["shown", "shown again"]
