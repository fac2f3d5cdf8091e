"""Fresh processes: how soon `drun` shows an image, and how much memory it takes."""

from __future__ import annotations

from functools import partial

from dbench.core import fresh, timing
from dbench.core.record import ResultRow, spread_row
from dbench.suites.latency.settings import SUITE, LatencySettings
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run.opening import choose

#: Times the batch: the images of the long memory run; the short one has one batch and FEW_STEPS.
MANY_BATCHES, FEW_STEPS = 16, 2
MB = 1e6


def rows_of(bundle: Bundle, name: str, settings: LatencySettings, threads: int, report: Report) -> list[ResultRow]:
    one = fresh.Job(bundle.path, name, threads, batch=1, num_images=1, num_steps=settings.steps)
    return cold_start_rows(one, settings, report) + memory_rows(bundle, name, settings, threads, report)


def cold_start_rows(job: fresh.Job, settings: LatencySettings, report: Report) -> list[ResultRow]:
    """From the start of a process to its first image, and whether PyTorch came along."""
    starts = max(3, settings.repeats // 4)
    seconds = []
    for done in range(1, starts + 1):
        seconds.append(fresh.cold_start_s(job))
        report(f"starting drun on {job.backend}", done, starts)
    with_torch = fresh.imports_module(job, "torch")
    return [
        spread_row(
            SUITE, f"{job.backend}, cold start to the first image, {job.num_steps} steps", timing.spread(seconds), "s",
            headline=f"from the start of drun on {job.backend} to its first image", details={"seconds": seconds},
        ),
        ResultRow(SUITE, f"{job.backend}, drun imports torch", with_torch, ""),
    ]  # fmt: skip


def memory_rows(bundle: Bundle, name: str, settings: LatencySettings, threads: int, report: Report) -> list[ResultRow]:
    """Peak memory of `drun` for few and many images, beside that of the backend alone for as many calls."""
    few = fresh.Job(bundle.path, name, threads, settings.batch, settings.batch, FEW_STEPS)
    many = fresh.Job(bundle.path, name, threads, settings.batch, MANY_BATCHES * settings.batch, settings.steps)
    peaks: list[int | None] = []
    for weigh in (
        partial(fresh.drun_peak_bytes, few),
        partial(fresh.drun_peak_bytes, many),
        partial(fresh.session_peak_bytes, many, MANY_BATCHES * settings.steps),
        partial(fresh.session_peak_bytes, many, 0),
    ):
        peaks.append(weigh())
        report(f"weighing processes on {name}", len(peaks), 4)
    drun_few, drun_many, session, imported = peaks
    network = _minus(session, imported)
    sizes = {
        f"drun peak memory, {_run(few)}": drun_few,
        f"drun peak memory, {_run(many)}": drun_many,
        f"the backend alone, {MANY_BATCHES * settings.steps} calls, peak memory": session,
        "the runtime imported, nothing opened, peak memory": imported,
        "weights and activations (backend alone - runtime imported)": network,
        "weight files": weight_bytes(bundle, name),
        "drun above the backend alone": _minus(drun_many, session),
        "drun above weights and activations": _minus(drun_many, network),
    }
    return [
        ResultRow(SUITE, f"{name}, {what}", _in_mb(size), "MB", details={"bytes": size}) for what, size in sizes.items()
    ]


def weight_bytes(bundle: Bundle, backend: str) -> int | None:
    """The size of the files that `backend` opens; None if it needs none."""
    artifact = choose(bundle, backend).artifact
    return None if artifact is None else sum(bundle.locate(entry).stat().st_size for entry in artifact.files)


def _run(job: fresh.Job) -> str:
    return f"{job.num_images} {'image' if job.num_images == 1 else 'images'}, {job.num_steps} steps"


def _minus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


def _in_mb(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / MB
