"""Ctrl-C and SIGTERM save a checkpoint and say how to go on; a kill loses nothing that was finished."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from drun.console import silent
from dtrain import cli, config
from dtrain.checkpoints import ours
from dtrain.device import Placement
from dtrain.train.loop import train

CPU = Placement(torch.device("cpu"), precision="fp32", compile=False, reasons=())
MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # background jobs ignore it
    "sys.argv = ['dtrain', *sys.argv[1:]]; from dtrain.cli import main; main()"
)


def start(folder: Path, assignments: list[str], *flags: str) -> subprocess.Popen[str]:
    settings = [word for assignment in assignments for word in ("--set", assignment)]
    command = [sys.executable, "-c", MAIN, "run", "digits-unet", "--device", "cpu", "--out", str(folder), *settings]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    log = folder / "log.jsonl"
    while (len(log.read_text().splitlines()) if log.exists() else 0) < count and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_is_saved_and_the_printed_command_goes_on(
    tiny_assignments: list[str], tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    endless = [*tiny_assignments, "train.steps=1000000", "train.save_every=1000000", "train.preview_every=1000000"]
    with start(folder, endless) as process:
        wait_for_steps(folder, 2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    said = re.search(r"error: stopped at step [\d,]+, which is saved as '(.*)'; go on with: (.*)", errors)
    assert said is not None, errors
    saved = ours.read(Path(said[1]))
    assert saved.step > 5
    assert said[2].startswith("dtrain run digits-unet ")
    assert said[2].endswith(" --resume")
    # A few steps more, as bit-exactly as ever.
    enough = said[2].replace("train.steps=1000000", f"train.steps={saved.step + 3}")
    monkeypatch.setattr(sys, "argv", shlex.split(enough))
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert ours.newest(folder, "digits-unet") == ours.path_at(folder, saved.recipe, saved.step + 3)


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_was_finished(tiny_assignments: list[str], tmp_path: Path) -> None:
    """What goes on from its newest checkpoint ends as a run that nobody disturbed."""
    often = ["train.steps=120", "train.save_every=10", "train.log_every=2"]
    recipe = config.load("digits-unet", [*tiny_assignments, *often])
    with start(tmp_path / "run", [*tiny_assignments, *often]) as process:
        wait_for_steps(tmp_path / "run", 11)
        process.kill()
    newest = ours.newest(tmp_path / "run", recipe.name)
    assert newest is not None
    assert 20 <= ours.read(newest).step < 120
    disturbed, quiet = (
        ours.read(train(recipe, tmp_path / name, CPU, name == "run", silent)) for name in ("run", "whole")
    )
    assert all(torch.equal(disturbed.ema[name], tensor) for name, tensor in quiet.ema.items())
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert not list((tmp_path / "run").glob(".*.part"))


#: Signals go to the main thread, so this is a process of its own.
SIGNALS = """
import signal
from dtrain.train.stop import Stop

with Stop() as stop:
    signal.raise_signal(signal.SIGTERM)
    assert stop.asked
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        print("stopped at once")
signal.signal(signal.SIGINT, signal.SIG_IGN)
with Stop() as stop:
    signal.raise_signal(signal.SIGINT)
    print("asked" if stop.asked else "ignored")
"""


def test_a_second_request_stops_at_once_and_what_was_ignored_stays_ignored() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "stopped at once\nignored\n"
