"""Progress: bars on a terminal, lines elsewhere, nothing under --quiet."""

from __future__ import annotations

import sys

import pytest

from drun.console import duration, progress, reporting
from drun.console.output import command_output


def test_plain_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line when something begins, then one every 15 seconds, with the time gone and left."""
    now = 100.0
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now)
    seen = []
    with progress() as report:
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
    monkeypatch.setattr(reporting, "PLAIN_INTERVAL_S", 0.0)
    with progress() as report:
        report("golden file", 0, 4)
        report("golden file", 0, 4)
    assert capsys.readouterr().err == "golden file …\n"


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress() as report:
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
    assert duration(seconds) == SAID[seconds]


def test_nothing_under_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=is_terminal: shown, raising=False)
        with command_output() as output:
            output.quiet = True
            with progress() as report:
                report("sampling steps", 2, 4)
                report("sampling steps", 4, 4)
        assert capsys.readouterr() == ("", "")
