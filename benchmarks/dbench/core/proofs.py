"""Repeats a bundle's proof on every candidate that can open it here."""

from __future__ import annotations

from dataclasses import dataclass

from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BackendUnavailable, DeviceUnavailable, NotTrusted, UserError
from drun.run import parity
from drun.run.opening import Candidate, candidates, open_candidate, unavailable
from drun.run.parity import Comparison
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions


@dataclass(frozen=True)
class TargetProof:
    """The result of one candidate: comparisons, or the reason why there are none."""

    name: str
    runs_on: str = ""
    checks: tuple[Comparison, ...] = ()
    skipped: str = ""  # the reason why it was not tried
    error: str = ""  # an error, which counts as a failure


def prove(bundle: Bundle, report: Report, options: RuntimeOptions = DEFAULT_OPTIONS) -> list[TargetProof]:
    """Run the golden file on every artifact x able backend x arithmetic; the error of one does not end the others.

    Args:
        options: its device decides which backends are able.

    Raises:
        BackendUnavailable: nothing could be proven, with the reason of the first.
    """
    proofs = [_proof(bundle, candidate, report, options) for candidate in candidates(bundle, device=options.device)]
    if not any(proof.checks for proof in proofs):
        raise BackendUnavailable(f"nothing of '{bundle.name}' was proven: {proofs[0].error or proofs[0].skipped}")
    return [*proofs, *(TargetProof(name, skipped=why) for name, why in unavailable(bundle).items())]


def _proof(bundle: Bundle, candidate: Candidate, report: Report, options: RuntimeOptions) -> TargetProof:
    try:
        with open_candidate(bundle, candidate, options) as opened:
            return TargetProof(candidate.name, opened.describe(), tuple(parity.check(bundle, opened, report)))
    except NotTrusted:
        return TargetProof(
            candidate.name, skipped="it can execute code, and this user's record of exports does not list it"
        )
    except DeviceUnavailable as error:  # which says nothing of the target
        return TargetProof(candidate.name, skipped=str(error))
    except UserError as error:
        # The path is replaced, because a page names no folders.
        return TargetProof(candidate.name, error=str(error).replace(str(bundle.path), bundle.name))
