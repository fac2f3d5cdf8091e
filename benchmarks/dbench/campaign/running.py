"""Runs slices as processes, one after another, and keeps what became of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbench.campaign.slices import DONE, FAILED, LEFT_OUT, TOO_LONG, Outcome, Slice, is_done, read_outcomes
from dbench.campaign.slices import write_outcomes as keep
from drun.console import Report
from drun.files import locked

ERROR = "error: "
#: How long a slice that is ended has to put its files away.
GRACE_S = 15


def run(slices: Sequence[Slice], out: Path, report: Report) -> dict[str, Outcome]:
    """Run the slices that are not done yet -> the outcomes of all of these, by name.

    What ended is kept in OUT/work/outcomes.json after each slice, so that an interrupted campaign goes on where it was;
    a slice whose command or files have changed is run again. What a slice says lies in OUT/work/logs.

    Raises:
        DataError: outcomes.json is damaged. Busy: another campaign runs in this folder. UserError: it cannot be
        written.
    """
    work = out / "work"
    with locked(work):
        kept, logs = work / "outcomes.json", work / "logs"
        logs.mkdir(exist_ok=True)
        outcomes = read_outcomes(kept)
        for done, one in enumerate(slices):
            report("measuring slices", done, len(slices), one.name)
            if not is_done(one, outcomes):
                outcomes[one.name] = _outcome(one, outcomes, logs / f"{one.name}.log")
                keep(kept, outcomes)
        report("measuring slices", len(slices), len(slices))
    return {one.name: outcomes[one.name] for one in slices}


def _outcome(one: Slice, outcomes: Mapping[str, Outcome], log: Path) -> Outcome:
    missing = [need for need in one.needs if need not in outcomes or outcomes[need].status != DONE]
    if why := one.why_not or (f"it needs {missing[0]}, which is not done" if missing else None):
        return Outcome(one.shown, LEFT_OUT, 0.0, time.time(), why)
    start_s = time.monotonic()
    code = _run(one, log)
    seconds, ended = time.monotonic() - start_s, time.time()
    if code is None:
        return Outcome(one.shown, TOO_LONG, seconds, ended, f"it was ended after {one.limit_s} s: {_last_words(log)}")
    return Outcome(one.shown, FAILED if code else DONE, seconds, ended, _last_words(log) if code else "")


def _run(one: Slice, log: Path) -> int | None:
    """The exit code; None if the process and its children were ended at the limit."""
    module, *arguments = one.command
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if one.on_processor else {})
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        try:
            return process.wait(one.limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, also where people interrupt the campaign."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_words(log: Path) -> str:
    """The last error that a slice wrote, else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines)[-1]
