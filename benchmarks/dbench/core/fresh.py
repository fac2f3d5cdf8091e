"""Measurements of fresh processes: how soon `drun` shows an image, and how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drun.errors import UserError
from drun.run.images import image_path

#: Start the command as its console script does.
DRUN = ("-c", "from drun.cli import main; main()")
CHILD = ("-m", "dbench.core.child")
POLL_S = 0.002


@dataclass(frozen=True)
class Job:
    """One `drun` command."""

    bundle: Path
    backend: str
    num_threads: int
    batch: int
    num_images: int
    num_steps: int

    def arguments(self, out: Path) -> list[str]:
        options = {
            "--bundle": self.bundle.resolve(), "--backend": self.backend, "--threads": self.num_threads,
            "--batch": self.batch, "-n": self.num_images, "--steps": self.num_steps, "--out": out,
        }  # fmt: skip
        return [str(word) for option in options.items() for word in option]


def cold_start_s(job: Job) -> float:
    """Seconds from the start of a `drun` process to its first image file.

    Raises:
        UserError: it ended without one.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        first = image_path(Path(folder), 0)
        start_s = time.perf_counter()
        command = [sys.executable, *DRUN, *job.arguments(Path(folder))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None and not first.exists():
                time.sleep(POLL_S)
            elapsed_s = time.perf_counter() - start_s
        errors.seek(0)
        _check(process.returncode, errors.read())
    return elapsed_s


def imports_module(job: Job, module: str) -> bool:
    """Whether `drun` imports a module on its way to the images."""
    with tempfile.TemporaryDirectory() as folder:
        return _answer(["imports", module, *job.arguments(Path(folder))]) == "True"


def drun_peak_bytes(job: Job) -> int | None:
    """The largest resident memory of a `drun` process."""
    with tempfile.TemporaryDirectory() as folder:
        return peak_bytes([*DRUN, *job.arguments(Path(folder))])


def session_peak_bytes(job: Job, num_calls: int) -> int | None:
    """The same of a process that opens the backend and calls it; with 0 calls, that only imports the runtime."""
    words = (job.bundle.resolve(), job.backend, job.batch, job.num_threads, num_calls)
    return peak_bytes([*CHILD, "session", *map(str, words)])


def peak_bytes(arguments: Sequence[str]) -> int | None:
    """The largest resident memory of a Python command line, bytes; None where the system does not say."""
    answer = _answer(["peak", *arguments])
    return None if answer == "None" else int(answer)


def _answer(arguments: Sequence[str]) -> str:
    """The last line that `dbench.core.child` prints."""
    command = [sys.executable, *CHILD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    _check(done.returncode, done.stderr)
    return done.stdout.splitlines()[-1]


def _check(returncode: int, errors: str) -> None:
    if returncode:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"a measured process ended with code {returncode}: {last}")
