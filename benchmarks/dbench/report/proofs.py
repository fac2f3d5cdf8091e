"""Shows the proofs of a bundle's targets on a page."""

from __future__ import annotations

from dbench.core.proofs import TargetProof
from dbench.core.record import UNKNOWN, number
from dbench.html import page
from drun.run import parity
from drun.run.parity import Comparison

COLUMNS = ("check", "relative L2", "allowed", "max abs", "p99 abs", "mean abs", "PSNR dB", "passed")


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
