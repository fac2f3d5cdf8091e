"""Makes the graphs of all candidates, opens them, and times them in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from dbench.core import machine, timing
from dbench.core.inputs import Inputs
from dbench.core.record import Result, ResultRow, this_command
from dbench.suites.graphs import candidates, states, subjects
from dbench.suites.graphs.candidates import Attempt, Candidate
from dbench.suites.graphs.opening import OpenGraph, opened
from dbench.suites.graphs.rows import DEFAULT, Measured, rows_of
from dbench.suites.graphs.settings import GraphsSettings
from dbench.suites.graphs.source import EagerCall, Original, named
from dexport import describe
from dexport.deploy import deployable
from dexport.targets import DEFAULT_BATCH, Part
from drun.bundle.artifact import TOLERANCES
from drun.console import Report, warn
from drun.errors import ConfigError, ExportError, UserError, door
from drun.run import parity
from drun.run.parity import Comparison
from dtrain.published import Denoiser

PRECISION = "fp32"


def measure(settings: GraphsSettings, report: Report) -> Result:
    """Time all candidates in turns, one batch size after the other.

    A candidate that this network, or this ONNX Runtime, does not allow is left out, by name.

    Raises:
        ConfigError: an unknown recipe, setting or candidate. CheckpointError: the file is not a checkpoint.
    """
    chosen = choose(settings.candidates)
    start = machine.usage()
    settings = replace(settings, threads=settings.threads or machine.num_cores())
    rows: list[ResultRow] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="dbench-graphs-", ignore_cleanup_errors=True) as scratch:
        loaded = subjects.load(settings, Path(scratch))
        original = original_of(loaded.denoiser, Path(scratch), report)
        for batch in settings.batches:
            found, failed = _of_batch(replace(original, batch=batch), chosen, settings, report)
            rows, left_out = rows + found, left_out | failed
    resolved = {key: value for key, value in asdict(settings).items() if key != "model"} | {
        "candidates": tuple(name for name in chosen if name not in left_out),
        "weights": loaded.weights,
        "left_out": left_out,
    }
    here = machine.fingerprint(settings.threads, since=start)
    return Result(tuple(rows), loaded.subject, resolved, here, this_command())


def choose(wanted: Sequence[str]) -> dict[str, Candidate]:
    """The wanted candidates, or all. Raises ConfigError for an unknown one."""
    known = candidates.found()
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--candidate got '{name}', expected one of {', '.join(known)}")
    return {name: candidate for name, candidate in known.items() if not wanted or name in wanted}


def original_of(denoiser: Denoiser, folder: Path, report: Report) -> Original:
    """The network as `dexport onnx` takes it, of any batch."""
    io, tolerance = describe.io_of(denoiser.card), TOLERANCES[PRECISION]
    part = Part("denoiser", denoiser.network, deployable(denoiser.network), PRECISION, io, DEFAULT_BATCH, tolerance)
    calibration = [named(part, inputs) for inputs in states.calibration(denoiser, report)]
    return Original(part, denoiser, DEFAULT_BATCH[0], calibration, folder)


# ---- one batch size -------------------------------------------------------------------------------------


def _of_batch(
    original: Original, chosen: Mapping[str, Candidate], settings: GraphsSettings, report: Report
) -> tuple[list[ResultRow], dict[str, str]]:
    """The rows of all candidates at one batch size, and the candidates that are left out, with the reason."""
    references = states.references(original, report)
    every: dict[str, Candidate] = {DEFAULT: _default, **chosen}
    sessions, proofs, failed = _open_all(every, original, references, settings.threads, report)
    timings = _timed(sessions, references[0].inputs, settings.repeats, report)
    rows = []
    for name, session in sessions.items():
        times = timings[DEFAULT], timings[name]
        measured = Measured(name, original.batch, *times, proofs[name], session.opening_s, session.size_bytes)
        rows += rows_of(measured, candidates.summary(every[name]))
    return rows, failed


def _open_all(
    every: Mapping[str, Candidate], original: Original, references: Sequence[EagerCall], threads: int, report: Report
) -> tuple[dict[str, OpenGraph], dict[str, Comparison], dict[str, str]]:
    """The sessions and their proofs, and the candidates without one, with the reason.

    Raises UserError if the default has none.
    """
    sessions, proofs, failed = {}, {}, {}
    for done, (name, candidate) in enumerate(every.items()):
        report("making and opening graphs", done, len(every))
        try:
            session = opened(_made(candidate, original), original.part, threads)
            with door("ONNX Runtime cannot compute it", ExportError, "see its file"):
                proofs[name] = worst(session, references)
            sessions[name] = session
        except UserError as error:
            if name == DEFAULT:
                raise
            failed[name] = str(error)
            warn(f"{name} is not timed: {error}")
    return sessions, proofs, failed


def _default(original: Original) -> Attempt:
    """The graph of dexport onnx and the session of drun."""
    return Attempt(original.default())


def _made(candidate: Candidate, original: Original) -> Attempt:
    """Raises ExportError if it cannot be made; tools raise exceptions of every kind."""
    with door("its graph cannot be made", ExportError, "see its file"):
        return candidate(original)


def _timed(sessions: Mapping[str, OpenGraph], inputs: Inputs, repeats: int, report: Report) -> dict[str, timing.Timing]:
    """A call of each in turn, after one that wakes its threads."""
    calls: dict[str, Any] = {name: partial(one.call, one.bound(inputs)) for name, one in sessions.items()}
    return timing.interleave(
        calls,
        repeats,
        warmup=1,
        lead_in=1,
        pause_s=timing.PAUSE_S,
        on_round=lambda done: report(f"timing calls of {len(inputs[0])}", done, repeats),
    )


def worst(session: OpenGraph, references: Sequence[EagerCall]) -> Comparison:
    """The reference with the largest error."""
    found = []
    for one in references:
        out = session.call(session.bound(one.inputs))
        found.append(parity.compare(f"t = {one.inputs[1][0]:g}", one.out, out, TOLERANCES[PRECISION].call))
    return parity.worst(found)
