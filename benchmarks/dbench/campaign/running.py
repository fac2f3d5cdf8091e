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

from dbench.campaign.slices import DONE, FAILED, LEFT_OUT, TOO_LONG, Outcome, Slice, read_outcomes, write_outcomes
from drun.console import Report

ERROR = "error: "


def run(slices: Sequence[Slice], out: Path, report: Report) -> dict[str, Outcome]:
    """Run the slices that are not done yet -> the outcomes of all of these, by name.

    What ended is kept in OUT/work/outcomes.json after each slice, so that an interrupted campaign goes on where it was;
    a slice whose command has changed is run again. What a slice says lies in OUT/work/logs.

    Raises:
        DataError: outcomes.json is damaged.
    """
    kept = out / "work" / "outcomes.json"
    logs = out / "work" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    outcomes = read_outcomes(kept)
    for done, one in enumerate(slices):
        report("measuring slices", done, len(slices), one.name)
        if not _is_done(one, outcomes):
            outcomes[one.name] = _outcome(one, outcomes, logs / f"{one.name}.log")
            write_outcomes(kept, outcomes)
    report("measuring slices", len(slices), len(slices))
    return {one.name: outcomes[one.name] for one in slices}


def _is_done(one: Slice, outcomes: Mapping[str, Outcome]) -> bool:
    earlier = outcomes.get(one.name)
    return earlier is not None and (earlier.status, earlier.command) == (DONE, one.shown)


def _outcome(one: Slice, outcomes: Mapping[str, Outcome], log: Path) -> Outcome:
    missing = [need for need in one.needs if need not in outcomes or outcomes[need].status != DONE]
    if why := one.why_not or (f"it needs {missing[0]}, which is not done" if missing else None):
        return Outcome(one.shown, LEFT_OUT, 0.0, why)
    start_s = time.monotonic()
    code = _run(one, log)
    seconds = time.monotonic() - start_s
    if code is None:
        return Outcome(one.shown, TOO_LONG, seconds, f"it was ended after {one.limit_s} s")
    return Outcome(one.shown, FAILED, seconds, _reason(log)) if code else Outcome(one.shown, DONE, seconds)


def _run(one: Slice, log: Path) -> int | None:
    """The exit code; None if the process and its children were ended at the limit."""
    module, *arguments = one.command
    command = [sys.executable, "-m", module, *arguments]
    with log.open("w") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(one.limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, also where people interrupt the campaign."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reason(log: Path) -> str:
    """The last error that a slice wrote, else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines)[-1]
