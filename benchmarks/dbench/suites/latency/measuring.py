"""Times every candidate of a bundle in turns with the same threads and inputs, and measures its memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace

from dbench.core import machine, subject
from dbench.core.inputs import example
from dbench.core.record import Result, ResultRow, this_command
from dbench.core.selection import open_all, select
from dbench.suites.latency import processes
from dbench.suites.latency.calls import call_rows, eager_call
from dbench.suites.latency.loops import loop_rows
from dbench.suites.latency.settings import LatencySettings
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run.opening import Candidate
from drun.settings import RuntimeOptions


def measure(settings: LatencySettings, report: Report) -> Result:
    """Time calls, loops and cold starts and measure the memory of processes, all candidates in turns.

    A candidate that cannot be opened here is left out, by name.

    Raises:
        ConfigError: a checkpoint whose weights are not in the bundle, or a batch that no artifact has; an unknown
        backend, precision or artifact. BackendUnavailable: nothing here opens the bundle.
    """
    bundle = bundles.open_bundle(settings.bundle)
    start = machine.usage()
    settings = replace(settings, threads=settings.threads or machine.num_cores())
    options = RuntimeOptions(settings.threads, settings.device, settings.hint, settings.trust, settings.compile)
    chosen = select(bundle, settings.backends, settings.precisions, settings.artifacts, settings.device)
    timed, rows = _in_this_process(bundle, chosen, options, settings, report)
    rows += processes.rows_of(bundle, timed, options, settings, report)
    shown = {key: value for key, value in asdict(settings).items() if key != "bundle"}
    resolved = shown | {
        "checkpoint": bundle.manifest.model.checkpoint["file"] if settings.checkpoint else None,
        "backends": tuple(dict.fromkeys(one.backend for one in timed)),
        "targets": tuple(one.name for one in timed),
    }
    here = machine.fingerprint(settings.threads, since=start)
    return Result(tuple(rows), subject.of_bundle(bundle), resolved, here, this_command())


def _in_this_process(
    bundle: Bundle, chosen: Sequence[Candidate], options: RuntimeOptions, settings: LatencySettings, report: Report
) -> tuple[list[Candidate], list[ResultRow]]:
    """The candidates that could be opened, and the rows of their times."""
    inputs = example(bundle, settings.batch)
    with ExitStack() as stack:
        eager = None
        if settings.checkpoint is not None:
            eager = stack.enter_context(eager_call(bundle, settings.checkpoint, inputs, settings.threads))
        opened = open_all(stack, bundle, chosen, options, settings.batch)
        rows = call_rows(opened, eager, bundle, inputs, settings, report)
        rows += loop_rows(opened, bundle, settings, report)
    return [one.candidate for one in opened], rows
