"""Slices run one after another; what is done stays done, and what fails ends nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dbench.campaign.running import run
from dbench.campaign.slices import DONE, FAILED, LEFT_OUT, TOO_LONG, Slice, read_outcomes
from drun.console import silent
from drun.errors import Busy, DataError, UserError
from drun.files import locked

MODULE = """
import os, signal, sys, time
from pathlib import Path
path, code, pause = sys.argv[1:]
with Path(path).open("a") as file:
    file.write(f"{os.getpid()}\\n")
signal.signal(signal.SIGTERM, lambda *_: (Path(path + ".ended").touch(), sys.exit(143)))
time.sleep(float(pause))
if code == "1":
    print("error: it went wrong\\na hint", file=sys.stderr)
sys.exit(int(code))
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that notes that it ran."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "a_slice_of_work.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]))
    return "a_slice_of_work"


def slice_of(worker: str, folder: Path, name: str, code: int = 0, pause: float = 0.0, limit_s: int = 60) -> Slice:
    return Slice(name, (worker, str(folder / name), str(code), str(pause)), limit_s)


def times(folder: Path, name: str) -> int:
    path = folder / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_what_is_done_is_not_done_again(worker: str, tmp_path: Path) -> None:
    first, second = (slice_of(worker, tmp_path, name) for name in ("first", "second"))
    assert [one.status for one in run([first], tmp_path / "out", silent).values()] == [DONE]
    found = run([first, second], tmp_path / "out", silent)
    assert [(name, one.status) for name, one in found.items()] == [("first", DONE), ("second", DONE)]
    assert (times(tmp_path, "first"), times(tmp_path, "second")) == (1, 1)
    changed = replace(first, command=(*first.command[:-1], "0.01"))
    run([changed], tmp_path / "out", silent)
    assert times(tmp_path, "first") == 2


def test_a_failure_ends_nothing_and_is_tried_again(worker: str, tmp_path: Path) -> None:
    bad, good = slice_of(worker, tmp_path, "bad", code=1), slice_of(worker, tmp_path, "good")
    needy = replace(slice_of(worker, tmp_path, "needy"), needs=("bad",))
    absent = replace(slice_of(worker, tmp_path, "absent"), why_not="it is not installed")
    found = run([bad, needy, absent, good], tmp_path / "out", silent)
    assert {name: (one.status, one.reason) for name, one in found.items()} == {
        "bad": (FAILED, "it went wrong"),
        "needy": (LEFT_OUT, "it needs bad, which is not done"),
        "absent": (LEFT_OUT, "it is not installed"),
        "good": (DONE, ""),
    }
    assert "a hint" in (tmp_path / "out" / "work" / "logs" / "bad.log").read_text()
    mended = slice_of(worker, tmp_path, "bad")
    found = run([mended, needy], tmp_path / "out", silent)
    assert [one.status for one in found.values()] == [DONE, DONE]
    assert times(tmp_path, "good") == 1


def test_a_slice_that_takes_too_long_is_ended(worker: str, tmp_path: Path) -> None:
    (outcome,) = run([slice_of(worker, tmp_path, "slow", pause=60, limit_s=2)], tmp_path / "out", silent).values()
    assert (outcome.status, outcome.reason) == (TOO_LONG, "it was ended after 2 s: it said nothing")
    assert outcome.seconds < 30
    assert (tmp_path / "slow.ended").exists()  # it had the time to put its files away


def test_new_files_of_what_it_takes_make_a_slice_run_again(worker: str, tmp_path: Path) -> None:
    source = slice_of(worker, tmp_path, "source", code=1)
    user = replace(slice_of(worker, tmp_path, "user"), uses=("source",))
    run([source, user], tmp_path / "out", silent)
    run([source, user], tmp_path / "out", silent)
    assert times(tmp_path, "user") == 1
    run([slice_of(worker, tmp_path, "source"), user], tmp_path / "out", silent)
    run([slice_of(worker, tmp_path, "source"), user], tmp_path / "out", silent)
    assert times(tmp_path, "user") == 2


def test_what_needs_no_gpu_is_kept_off_it(tmp_path: Path) -> None:
    code = "import os; print('error:', repr(os.environ.get('CUDA_VISIBLE_DEVICES'))); raise SystemExit(1)"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "says_what_it_sees.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "modules"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "3")
        slices = [Slice(str(kept), ("says_what_it_sees",), 60, on_processor=kept) for kept in (True, False)]
        found = run(slices, tmp_path / "out", silent)
    assert [one.reason for one in found.values()] == ["''", "'3'"]


def test_two_campaigns_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "out" / "work"), pytest.raises(Busy):
        run([], tmp_path / "out", silent)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another folder"):
        run([], tmp_path / "file", silent)


def test_an_interrupt_ends_the_slice_and_keeps_the_others(worker: str, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from dbench.campaign.running import run
from dbench.campaign.slices import Slice
from drun.console import silent
out = Path({str(tmp_path)!r})
slices = [Slice(n, ({worker!r}, str(out / n), "0", p), 60) for n, p in (("quick", "0"), ("slow", "50"))]
run(slices, out / "out", silent)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not times(tmp_path, "slow") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) != 0
    outcomes = read_outcomes(tmp_path / "out" / "work" / "outcomes.json")
    assert {name: one.status for name, one in outcomes.items()} == {"quick": DONE}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "slow").read_text()), 0)


@pytest.mark.parametrize("content", ["{", "[]", '{"kernel": {"command": "x"}}', '{"kernel": 3}'])
def test_a_damaged_list_of_outcomes(content: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / "work" / "outcomes.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=r"outcomes\.json"):
        run([], tmp_path / "out", silent)
