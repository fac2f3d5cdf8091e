"""Repeats the bundle's proof for a page, on every candidate that can open it here."""

from __future__ import annotations

from dataclasses import dataclass

from dbench.core.record import UNKNOWN, number
from dbench.html import page
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BackendUnavailable, NotTrusted, UserError
from drun.run import parity
from drun.run.opening import Candidate, candidates, open_candidate, unavailable
from drun.run.parity import Comparison

COLUMNS = ("check", "relative L2", "allowed", "max abs", "p99 abs", "mean abs", "PSNR dB", "passed")


@dataclass(frozen=True)
class TargetProof:
    """The result of one candidate: comparisons, or the reason why there are none."""

    name: str
    runs_on: str = ""
    checks: tuple[Comparison, ...] = ()
    skipped: str = ""  # the reason why it was not tried
    error: str = ""  # an error, which counts as a failure


def prove(bundle: Bundle, report: Report) -> list[TargetProof]:
    """Run the golden file on every artifact x able backend x arithmetic; the error of one does not end the others.

    Raises:
        BackendUnavailable: nothing could be proven, with the reason of the first.
    """
    proofs = [_proof(bundle, candidate, report) for candidate in candidates(bundle)]
    if not any(proof.checks for proof in proofs):
        raise BackendUnavailable(f"nothing of '{bundle.name}' was proven: {proofs[0].error or proofs[0].skipped}")
    return [*proofs, *(TargetProof(name, skipped=why) for name, why in unavailable(bundle).items())]


def _proof(bundle: Bundle, candidate: Candidate, report: Report) -> TargetProof:
    try:
        with open_candidate(bundle, candidate) as opened:
            return TargetProof(candidate.name, opened.describe(), tuple(parity.check(bundle, opened, report)))
    except NotTrusted:
        return TargetProof(
            candidate.name, skipped="it can execute code, and this user's record of exports does not list it"
        )
    except UserError as error:
        # The path is replaced, because a page names no folders.
        return TargetProof(candidate.name, error=str(error).replace(str(bundle.path), bundle.name))


# ---- on the page ----------------------------------------------------------------------------------------


def section(proofs: list[TargetProof]) -> str:
    """Every target in a line, and its comparisons in a table each."""
    text = (
        "The bundle carries inputs and the outputs of eager PyTorch in float32. For this page each was computed again; "
        "a check passes if its relative L2 error is at most the allowed one."
    )
    head = ("target", "checks passed", "worst relative L2", "allowed", "PSNR dB", "of")
    tables = [
        page.table(COLUMNS, map(_comparison, proof.checks), f"{proof.runs_on}: {proof.name}")
        for proof in proofs
        if proof.checks
    ]
    notes = [page.paragraph(f"{proof.name} failed: {proof.error}.") for proof in proofs if proof.error]
    notes += [page.paragraph(f"{proof.name} was skipped: {proof.skipped}.") for proof in proofs if proof.skipped]
    table = page.table(head, map(_line, proofs), "All targets; of each the check that is furthest towards its limit")
    return page.section("Parity with eager PyTorch", page.paragraph(text), table, *notes, *tables)


def _line(proof: TargetProof) -> list[str]:
    if not proof.checks:
        return [proof.name, "failed" if proof.error else "skipped", *[UNKNOWN] * 4]
    worst, passed = parity.worst(list(proof.checks)), sum(check.passed for check in proof.checks)
    errors = (f"{worst.relative_l2:.1e}", f"{worst.tolerance:.1e}", f"{worst.psnr_db:.1f}")
    return [proof.name, f"{passed} of {len(proof.checks)}", *errors, worst.name]


def _comparison(check: Comparison) -> list[str]:
    errors = (check.relative_l2, check.tolerance, check.max_abs, check.p99_abs, check.mean_abs)
    return [check.name, *(f"{error:.1e}" for error in errors), f"{check.psnr_db:.1f}", number(check.passed)]
