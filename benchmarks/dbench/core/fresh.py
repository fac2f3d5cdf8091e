"""Measures fresh processes: how soon `drun` shows an image, and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from drun.console import Report
from drun.errors import UserError
from drun.run.images import image_path
from drun.run.opening import Candidate
from drun.run.output import raw_path
from drun.settings import RuntimeOptions

#: Start the command as its console script does.
DRUN = ("-c", "from drun.cli import main; main()")
CHILD = ("-m", "dbench.core.child")
POLL_S = 0.002


@dataclass(frozen=True)
class Job:
    """One `drun` command on one candidate."""

    bundle: Path
    candidate: Candidate
    options: RuntimeOptions
    batch: int
    num_images: int
    num_steps: int

    @property
    def choice(self) -> dict[str, str | None]:
        """The arguments of `drun.run.opening.choose`; None if the candidate opens nothing."""
        one = self.candidate
        if one.artifact is None:
            return {"backend": one.backend, "precision": None, "artifact": None}
        return {"backend": one.backend, "precision": one.arithmetic, "artifact": one.artifact.id}

    def arguments(self, out: Path) -> list[str]:
        given = {f"--{key}": value for key, value in self.choice.items()} | {
            "--bundle": self.bundle.resolve(),
            "--threads": self.options.threads,
            "--device": self.options.device,
            "--hint": self.options.hint,
            "--batch": self.batch,
            "-n": self.num_images,
            "--steps": self.num_steps,
            "--out": out,
        }
        words = [str(word) for option in given.items() if option[1] is not None for word in option]
        switches = {"--trust": self.options.trust, "--compile": self.options.compile}
        return [*words, *(switch for switch, is_on in switches.items() if is_on)]


def cold_start_s(job: Job) -> float:
    """Seconds from the start of a `drun` process to its first image file, or latent where no decoder makes images.

    Raises:
        UserError: it ended without one.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        first = [image_path(Path(folder), 0), raw_path(Path(folder), 0)]
        start_s = time.perf_counter()
        command = [sys.executable, *DRUN, *job.arguments(Path(folder))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None and not any(path.exists() for path in first):
                time.sleep(POLL_S)
            elapsed_s = time.perf_counter() - start_s
        errors.seek(0)
        _check(process.returncode, errors.read())
        if not any(path.exists() for path in first):
            raise UserError("drun ended without an image")
    return elapsed_s


def cold_starts_s(jobs: Sequence[Job], starts: int, report: Report) -> dict[str, list[float]]:
    """`cold_start_s` of each job, in turns: name of the candidate -> seconds of each start."""
    seconds: dict[str, list[float]] = {job.candidate.name: [] for job in jobs}
    for done in range(1, starts + 1):
        for job in jobs:
            seconds[job.candidate.name].append(cold_start_s(job))
        report("starting drun", done, starts)
    return seconds


def imports_module(job: Job, module: str) -> bool:
    """Whether `drun` imports a module on its way to the images."""
    with tempfile.TemporaryDirectory() as folder:
        return _answer(["imports", module, *job.arguments(Path(folder))]) == "True"


def drun_peak_bytes(job: Job) -> int | None:
    """The largest resident memory of a `drun` process."""
    with tempfile.TemporaryDirectory() as folder:
        return peak_bytes([*DRUN, *job.arguments(Path(folder))])


def session_peak_bytes(job: Job, num_calls: int) -> int | None:
    """The largest resident memory of a process that calls the backend; with 0 calls it only imports the runtime."""
    asked = {
        "bundle": str(job.bundle.resolve()),
        "choice": job.choice,
        "options": asdict(job.options),
        "batch": job.batch,
        "num_calls": num_calls,
    }
    return peak_bytes([*CHILD, "session", json.dumps(asked)])


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
