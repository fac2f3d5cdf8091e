"""Makes the graphs of all candidates, opens them, and times them in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dbench.core import machine, timing
from dbench.core.inputs import Inputs
from dbench.core.record import Result, ResultRow, this_command
from dbench.suites.graphs import candidates, states, subjects
from dbench.suites.graphs.candidates import Attempt, Candidate
from dbench.suites.graphs.opening import Session, opened
from dbench.suites.graphs.rows import DEFAULT, Measured, rows_of
from dbench.suites.graphs.settings import GraphsSettings
from dbench.suites.graphs.source import Original, Reference, named
from dexport import describe
from dexport.deploy import deployable
from dexport.targets import Part
from dexport.writer.create import DEFAULT_BATCH
from drun.bundle.artifact import TOLERANCES
from drun.console import Report, warn
from drun.errors import ConfigError, ExportError, UserError, door
from drun.run import parity
from drun.run.parity import Comparison
from dtrain.published import Denoiser

PRECISION = "fp32"


@dataclass
class Outcome:
    """What the measurement of all batch sizes leaves."""

    rows: list[ResultRow] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # candidate -> why


def measure(settings: GraphsSettings, report: Report) -> Result:
    """Time all candidates in turns, one batch size after the other.

    A candidate that this network, or this ONNX Runtime, does not allow is left out, by name.

    Raises:
        ConfigError: an unknown recipe, setting or candidate. CheckpointError: the file is not a checkpoint.
    """
    chosen = choose(settings.candidates)
    start = machine.usage()
    settings = replace(settings, threads=settings.threads or machine.num_cores())
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="dbench-graphs-", ignore_cleanup_errors=True) as scratch:
        loaded = subjects.load(settings, Path(scratch))
        original = original_of(loaded.denoiser, Path(scratch), report)
        for batch in settings.batches:
            _measure_batch(replace(original, batch=batch), loaded.denoiser, chosen, settings, outcome, report)
    resolved = {key: value for key, value in asdict(settings).items() if key != "model"} | {
        "candidates": tuple(name for name in chosen if name not in outcome.left_out),
        "weights": loaded.weights,
        "left_out": outcome.left_out,
    }
    here = machine.fingerprint(settings.threads, since=start)
    return Result(tuple(outcome.rows), loaded.subject, resolved, here, this_command())


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
    return Original(part, DEFAULT_BATCH[0], calibration, folder)


# ---- one batch size -------------------------------------------------------------------------------------


def _measure_batch(
    original: Original,
    denoiser: Denoiser,
    chosen: Mapping[str, Candidate],
    settings: GraphsSettings,
    outcome: Outcome,
    report: Report,
) -> None:
    references = states.references(denoiser, original.batch, report)
    every: dict[str, Candidate] = {DEFAULT: _default, **chosen}
    sessions = {}
    for done, (name, candidate) in enumerate(every.items()):
        report("making and opening graphs", done, len(every))
        try:
            sessions[name] = opened(_made(candidate, original), original.part, settings.threads)
        except UserError as error:
            outcome.left_out[name] = str(error)
            warn(f"{name} is not timed: {error}")
    proofs = {name: worst(session, references) for name, session in sessions.items()}
    timings = _timed(sessions, references[0].inputs, settings.repeats, report)
    for name, session in sessions.items():
        ratio = timings[DEFAULT], timings[name]
        measured = Measured(name, original.batch, *ratio, proofs[name], session.opening_s, session.size_bytes)
        outcome.rows += rows_of(measured, candidates.summary(every[name]))


def _default(original: Original) -> Attempt:
    """The graph of dexport onnx and the session of drun."""
    return Attempt(original.default())


def _made(candidate: Candidate, original: Original) -> Attempt:
    """Raises ExportError if it cannot be made; tools raise exceptions of every kind."""
    with door("its graph cannot be made", ExportError, "see its file"):
        return candidate(original)


def _timed(sessions: Mapping[str, Session], inputs: Inputs, repeats: int, report: Report) -> dict[str, timing.Timing]:
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


def worst(session: Session, references: Sequence[Reference]) -> Comparison:
    """The reference with the largest error."""
    found = []
    for one in references:
        out = session.call(session.bound(one.inputs))
        found.append(parity.compare(f"t = {one.inputs[1][0]:g}", one.out, out, TOLERANCES[PRECISION].call))
    return parity.worst(found)
