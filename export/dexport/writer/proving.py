"""Proves each artifact with its target's backend, or records that it is not proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dexport import targets
from dexport.proof import proof_of
from dexport.writer.loss import loss_of
from dexport.writer.pairs import ArtifactPair
from drun import backends
from drun.bundle.artifact import INT8, Parity
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BackendUnavailable, NotTrusted, ParityError
from drun.run import parity
from drun.run.golden import read_golden
from drun.run.opening import Candidate, open_candidate
from drun.run.parity import Comparison


@dataclass(frozen=True)
class Proven:
    """A pair with its parity."""

    pair: ArtifactPair
    results: Sequence[Comparison] = ()  # the decoder's is the last
    unproven: str | None = None  # the reason why there are no comparisons
    remark: str | None = None  # of the backend, on the numbers that it computed


def prove(draft: Bundle, pair: ArtifactPair, report: Report, allow_drift: bool = False) -> Proven:
    """Prove a new pair.

    Args:
        draft: a bundle of this pair and what it was derived from alone; if the pair does not decode, with what does.
        allow_drift: a failed proof is recorded, not raised.

    Raises:
        ParityError: it does not compute what eager PyTorch computes.
    """
    if reason := _cannot_prove(pair):
        return _unproven(pair, reason)
    try:
        return _measured(draft, pair, report, allow_drift)
    except ParityError as error:
        advice = "; to keep it nevertheless, add --allow-drift" if pair.denoiser.precision == INT8 else ""
        raise ParityError(f"{error}; nothing was written{advice}") from error


def prove_again(draft: Bundle, pair: ArtifactPair, report: Report) -> Proven:
    """Prove a pair that the bundle held. A pair that cannot be opened here, or is not trusted, stays unproven.

    A pair that had failed and was written nevertheless may fail again.
    """
    if reason := _cannot_prove(pair):
        return _unproven(pair, reason)
    try:
        return _measured(draft, pair, report, _has_drifted(pair))
    except (BackendUnavailable, NotTrusted) as error:
        return _unproven(pair, str(error))
    except ParityError as error:
        raise ParityError(f"{error}; nothing was written: the bundle holds it, so choose another -o") from error


def _has_drifted(pair: ArtifactPair) -> bool:
    parity = pair.denoiser.parity
    return pair.denoiser.precision == INT8 and parity is not None and not parity["passed"]


def _cannot_prove(pair: ArtifactPair) -> str | None:
    """Why this machine cannot prove a pair, or None."""
    if pair.denoiser.format not in targets.names():
        return f"this dexport has no target '{pair.denoiser.format}'"
    if pair.denoiser.precision not in targets.precisions(pair.denoiser.format):
        return f"this dexport makes no {pair.denoiser.format} in {pair.denoiser.precision}"
    name = targets.prover(pair.denoiser.format, pair.denoiser.precision)
    runtime = backends.load(name)
    if not (probe := runtime.probe()).available:
        return probe.why_not
    try:
        is_able = pair.denoiser.precision in runtime.arithmetics(pair.denoiser)
    except BackendUnavailable as error:  # it is installed, but does not load
        return str(error)
    return None if is_able else f"backend '{name}' does not compute in {pair.denoiser.precision} here"


def _measured(draft: Bundle, pair: ArtifactPair, report: Report, allow_drift: bool) -> Proven:
    """The bundle may be a stranger's, so that nothing is trusted here; what was just exported is (`drun.trust`)."""
    artifact = pair.denoiser
    prover = targets.prover(artifact.format, artifact.precision)
    candidate = Candidate(prover, artifact, artifact.precision)
    with open_candidate(draft, candidate) as opened:
        results, where = parity.check(draft, opened, report), opened.describe()
        remark = opened.backend.remark()
        if not allow_drift:
            _refuse_drift(pair.id, results)
        losses = {"loss": loss_of(draft, opened, report)} if artifact.precision == INT8 else {}
    proof = proof_of(read_golden(draft))
    own = results if draft.manifest.decoder is None else results[:-1]
    measured = parity.summary(own, where, proof.is_quick, proof.num_steps)
    denoiser = replace(artifact, parity=Parity(**measured, **losses))  # type: ignore[typeddict-item]
    decoder = pair.decoder and replace(pair.decoder, parity=parity.summary(results[-1:], where, proof.is_quick))
    return Proven(ArtifactPair(denoiser, decoder), results, remark=remark)


def _refuse_drift(name: str, results: list[Comparison]) -> None:
    """Raises ParityError if a comparison has failed."""
    if failed := [result for result in results if not result.passed]:
        worst = parity.worst(failed)
        error = f"{worst.psnr_db:.1f} dB" if worst.least_db else f"relative L2 {worst.relative_l2:.2g}"
        raise ParityError(f"{name}: {worst.name}: {error} from eager PyTorch, allowed {worst.allowed}")


def _unproven(pair: ArtifactPair, reason: str) -> Proven:
    decoder = pair.decoder and replace(pair.decoder, parity=None)
    return Proven(ArtifactPair(replace(pair.denoiser, parity=None), decoder), unproven=reason)
