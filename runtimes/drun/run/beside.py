"""Finishes one batch on a thread while the caller draws the next one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Beside:
    """A thread that does one job at a time beside the caller.

    Leaving it waits for all jobs, so nothing that was handed over is lost, whatever stopped the caller. The error of a
    job is raised by the next call or on leaving, unless another error is on its way there.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "beside")
        self.job: Future[Any] | None = None

    def do(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Hand over a job, and wait for the one before it: no jobs pile up, nor do the arrays that they hold."""
        job = self.thread.submit(work, *arguments)  # first, so that it is not lost if the wait is interrupted
        before, self.job = self.job, job
        if before is not None:
            before.result()
        return job

    def check(self) -> None:
        """Raise the error of a job that has failed, without waiting for one that goes on."""
        if self.job is not None and self.job.done():
            self.job.result()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.thread.shutdown()
        if kind is None:
            self.check()
