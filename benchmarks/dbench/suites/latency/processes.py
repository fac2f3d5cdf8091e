"""Measures fresh processes: how soon `drun` shows an image, and how much memory it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dbench.core import fresh, timing
from dbench.core.fresh import Job
from dbench.core.record import ResultRow, spread_row
from dbench.suites.latency.settings import SUITE, LatencySettings
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run.opening import Candidate
from drun.settings import RuntimeOptions

#: The batches of the long memory run; the short run has one batch.
MANY_BATCHES = 16
#: Memory does not depend on the number of steps, so a few are enough.
FEW_STEPS = 2
MB = 1e6


def rows_of(
    bundle: Bundle, chosen: Sequence[Candidate], options: RuntimeOptions, settings: LatencySettings, report: Report
) -> list[ResultRow]:
    """Cold start and memory of every candidate.

    Some rows do not depend on the candidate: whether PyTorch is imported and the memory of an imported runtime are
    measured once for each backend, and the memory that `drun` adds for many images once, for the first candidate.
    """
    jobs = [Job(bundle.path, one, options, 1, 1, settings.steps) for one in chosen]
    rows = cold_start_rows(jobs, settings, report)
    for backend, job in {job.candidate.backend: job for job in reversed(jobs)}.items():
        rows.append(ResultRow(SUITE, f"{backend}, drun imports torch", fresh.imports_module(job, "torch"), ""))
    return rows + memory_rows(bundle, jobs, settings, report)


def cold_start_rows(jobs: Sequence[Job], settings: LatencySettings, report: Report) -> list[ResultRow]:
    """From the start of a process to its first image, the candidates taking turns."""
    seconds = fresh.cold_starts_s(jobs, max(3, settings.repeats // 4), report)
    first = jobs[0].candidate.name
    return [
        spread_row(
            SUITE,
            f"{name}, cold start to the first image, {settings.steps} steps",
            timing.spread(found),
            "s",
            headline=f"from the start of drun on {name} to its first image" if name == first else "",
            details={"seconds": found},
        )
        for name, found in seconds.items()
    ]


# ---- memory ---------------------------------------------------------------------------------------------


def memory_rows(bundle: Bundle, jobs: Sequence[Job], settings: LatencySettings, report: Report) -> list[ResultRow]:
    """The peak memory of each candidate alone, and of `drun` for few and many images with the first one."""
    num_calls = MANY_BATCHES * FEW_STEPS
    imported: dict[str, int | None] = {}
    alone: list[int | None] = []
    rows = []
    for job in jobs:
        report("weighing processes", len(alone), len(jobs))
        backend, name, called = job.candidate.backend, job.candidate.name, replace(job, batch=settings.batch)
        if backend not in imported:
            imported[backend] = fresh.session_peak_bytes(called, 0)
            rows.append(_row(f"{backend}, the runtime imported, nothing opened, peak memory", imported[backend]))
        alone.append(fresh.session_peak_bytes(called, num_calls))
        network = _minus(alone[-1], imported[backend])
        rows += [
            _row(f"{name}, the backend alone, {num_calls} calls, peak memory", alone[-1]),
            _row(f"{name}, weights and activations (backend alone - runtime imported)", network),
            _row(f"{name}, weight files", weight_bytes(bundle, job.candidate)),
        ]
    report("weighing processes", len(jobs), len(jobs))
    return rows + _drun_rows(jobs[0], settings.batch, alone[0], imported[jobs[0].candidate.backend])


def _drun_rows(job: Job, batch: int, alone: int | None, imported: int | None) -> list[ResultRow]:
    """The memory of `drun` for one batch and for many, and the part above its network."""
    few = replace(job, batch=batch, num_images=batch, num_steps=FEW_STEPS)
    many = replace(few, num_images=MANY_BATCHES * batch)
    name, peak = job.candidate.name, fresh.drun_peak_bytes(many)
    return [
        _row(f"{name}, drun peak memory, {_run(few)}", fresh.drun_peak_bytes(few)),
        _row(f"{name}, drun peak memory, {_run(many)}", peak),
        _row(f"{name}, drun above the backend alone", _minus(peak, alone)),
        _row(f"{name}, drun above weights and activations", _minus(peak, _minus(alone, imported))),
    ]


def _row(name: str, size: int | None) -> ResultRow:
    return ResultRow(SUITE, name, _in_mb(size), "MB", details={"bytes": size})


def weight_bytes(bundle: Bundle, candidate: Candidate) -> int | None:
    """The size of the files that are opened; None if there are none."""
    artifact = candidate.artifact
    return None if artifact is None else sum(bundle.locate(entry).stat().st_size for entry in artifact.files)


def _run(job: Job) -> str:
    return f"{job.num_images} {'image' if job.num_images == 1 else 'images'}, {job.num_steps} steps"


def _minus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


def _in_mb(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / MB
