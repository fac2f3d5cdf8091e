"""Errors in one line, and progress."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from drun import console
from drun.errors import BundleError, Interrupted, ParityError

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
        console.run_app(stop(error))
    assert exit_.value.code == code
    assert capsys.readouterr() == ("", message)


def test_lines_for_people_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("two\nlines \x1b[2J")
    console.warn("a \x07 bell\nrings")
    assert capsys.readouterr() == ("two\nlines \\x1b[2J\n", "warning: a \\x07 bell rings\n")


def test_debug_raises_and_is_no_option_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["drun", "info", "--debug", "x"])
    with pytest.raises(BundleError):
        console.run_app(stop(BundleError("no bundle")))
    assert sys.argv == ["drun", "info", "x"]


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["drun"])
    with pytest.raises(ZeroDivisionError):
        console.run_app(lambda: 1 / 0)


def test_plain_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line when something begins, then one every 15 seconds, with the time gone and left."""
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    seen = []
    with console.progress() as report:
        for seconds, done in ((100.0, 400), (110.0, 600), (120.0, 1400), (121.0, 2000), (140.0, 3400), (160.0, 5400)):
            now = seconds
            report("sampling steps", done, 5400, "fast")
            seen.append(capsys.readouterr().err)
        now = 200.0
        report("packing", 0, 3)
    assert seen == [
        "sampling steps …\n",
        "",
        "sampling steps: 1,400/5,400, fast; 20 s gone, about 1 min 20 s left\n",
        "",
        "sampling steps: 3,400/5,400, fast; 40 s gone, about 27 s left\n",
        "sampling steps: 5,400/5,400, fast; took 1 min 0 s\n",
    ]  # fmt: skip
    assert capsys.readouterr() == ("", "packing …\n")


def test_plain_progress_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no time left to tell yet."""
    monkeypatch.setattr(console, "PLAIN_INTERVAL_S", 0.0)
    with console.progress() as report:
        report("golden file", 0, 4)
        report("golden file", 0, 4)
    assert capsys.readouterr().err == "golden file …\n"


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress() as report:
        report("sampling steps", 2, 4)
        report("packing", 1, 3, "slowly")
        report("sampling steps", 4, 4)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(text in err for text in ("sampling steps", "4/4", "packing", "1/3", "slowly"))
    assert err.count(" gone, about ") + err.count("took ") > 0


SAID = {0.4: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 431.0: "7 min 11 s", 3600.0: "1 h 0 min", 93_784.0: "26 h 3 min"}


@pytest.mark.parametrize("seconds", SAID)
def test_durations(seconds: float) -> None:
    assert console.duration(seconds) == SAID[seconds]
