"""Measures how long one network call takes, and how far its result is from eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core import timing
from dbench.core.inputs import Inputs
from dbench.core.origin import farthest
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Call, Timing
from dbench.suites.latency.settings import SUITE, LatencySettings
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run import parity
from drun.run.golden import Golden, read_golden
from drun.run.opening import Opened
from drun.run.parity import Comparison

EAGER = "eager torch"


@contextmanager
def eager_call(bundle: Bundle, checkpoint: Path, inputs: Inputs, threads: int) -> Iterator[Callable[[], NDArray[Any]]]:
    """A call of the eager PyTorch network that the bundle was exported from, on `inputs`, with `threads` threads.

    Raises:
        ConfigError: the checkpoint is not the bundle's.
    """
    import torch

    from dbench.core.origin import denoiser_of

    network = denoiser_of(bundle, checkpoint).network
    tensors = [torch.from_numpy(array) for array in inputs]

    def call() -> NDArray[Any]:
        with torch.inference_mode():
            return np.asarray(network(*tensors))

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield call
    finally:
        torch.set_num_threads(threads_before)


def call_rows(
    opened: Sequence[Opened],
    eager: Callable[[], NDArray[Any]] | None,
    bundle: Bundle,
    inputs: Inputs,
    settings: LatencySettings,
    report: Report,
) -> list[ResultRow]:
    """Latency of one call on each candidate, taking turns, beside its parity; with `eager`, the ratio to it, too.

    The first candidate has the headline, because `drun` takes it by default.
    """
    calls: dict[str, Call] = {} if eager is None else {EAGER: eager}
    calls |= {one.candidate.name: partial(one.backend.predict, *inputs) for one in opened}
    timings = timing.interleave(
        calls,
        settings.repeats,
        lead_in=timing.LEAD_IN,
        pause_s=timing.PAUSE_S,
        on_round=lambda done: report("timing calls", done, settings.repeats),
    )
    rows, golden = [], read_golden(bundle)
    if eager is not None:
        rows.append(timing_row(f"{EAGER}, call", timings[EAGER], settings.batch, "PyTorch on CPU"))
    for one in opened:
        name = one.candidate.name
        proof = worst_call(one, golden)
        rows += [timing_row(f"{name}, call", timings[name], settings.batch, one.describe(), proof)]
        rows += parity_rows(name, proof)
        if eager is not None:
            rows += _ratio_rows(name, timings[EAGER], timings[name], is_first=one is opened[0])
            error = parity.compare(name, eager(), one.backend.predict(*inputs), 0.0).relative_l2
            rows.append(ResultRow(SUITE, f"{name}, relative L2 to {EAGER}", error, ""))
    return rows


def timing_row(name: str, times: Timing, batch: int, runs_on: str, proof: Comparison | None = None) -> ResultRow:
    """The row of a speed, which is doubtful if parity fails."""
    details = {"runs_on": runs_on, "batch": batch, "latencies_ms": times.latencies_ms}
    doubt = "it does not compute what eager PyTorch computes" if proof and not proof.passed else None
    return spread_row(SUITE, name, times.spread_ms, "ms", details=details, doubt=doubt)


# ---- parity ---------------------------------------------------------------------------------------------


def worst_call(opened: Opened, golden: Golden) -> Comparison:
    """The golden call with the largest error of a candidate.

    A backend without an artifact has nothing to compare with the bundle, so it has not passed.
    """
    allowed = opened.tolerance().call
    return farthest(opened.call, golden.calls, allowed)


def parity_rows(name: str, proof: Comparison) -> list[ResultRow]:
    details = {"passed": proof.passed, "at": proof.name, "psnr_db": proof.psnr_db}
    return [
        ResultRow(SUITE, f"{name}, worst relative L2 of the golden calls", proof.relative_l2, "", details=details),
        ResultRow(SUITE, f"{name}, allowed relative L2", proof.tolerance, ""),
    ]


# ---- ratios ---------------------------------------------------------------------------------------------


def _ratio_rows(name: str, eager: Timing, backend: Timing, is_first: bool) -> list[ResultRow]:
    pairwise = timing.pairwise_ratio(eager, backend)
    headline = f"faster than {EAGER}: a call on {name}" if is_first else ""
    return [
        ResultRow(SUITE, f"{EAGER} / {name}, of medians", timing.ratio_of_medians(eager, backend), "x"),
        spread_row(SUITE, f"{EAGER} / {name}, pairwise", pairwise, "x", headline=headline),
    ]
