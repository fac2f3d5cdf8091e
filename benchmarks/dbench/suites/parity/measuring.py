"""Turns the proofs of a bundle's targets into a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from dbench.core import machine, subject
from dbench.core.proofs import TargetProof, prove
from dbench.core.record import Result, ResultRow, this_command
from dbench.suites.parity.settings import SUITE, ParitySettings
from drun.bundle import reading as bundles
from drun.console import Report
from drun.run import parity
from drun.settings import RuntimeOptions

FAILED = "it does not compute what eager PyTorch computes"


def measure(settings: ParitySettings, report: Report) -> Result:
    """Prove every target that can be opened on the device.

    Raises:
        BackendUnavailable: none can be, with the reason of the first. ConfigError: an unknown device.
    """
    bundle, start = bundles.open_bundle(settings.bundle), machine.usage()
    bundle.check_files()
    proofs = prove(bundle, report, RuntimeOptions(device=settings.device, trust=settings.trust))
    rows = tuple(row for proof in proofs for row in _rows(proof))
    here = machine.fingerprint(since=start)
    shown = {key: value for key, value in asdict(settings).items() if key != "bundle"} | {"gpu": here.gpu}
    return Result(rows, subject.of_bundle(bundle), shown, here, this_command())


def failure(result: Result) -> str | None:
    """Which targets do not compute what eager PyTorch computes; None if all do."""
    failed = [row.name.partition(", ")[0] for row in result.rows if row.value is False]
    return f"{len(failed)} of the targets failed: do not use {', '.join(failed)}" if failed else None


def _rows(proof: TargetProof) -> Iterator[ResultRow]:
    """Whether all checks of a target passed, and the error of the worst one."""
    if not proof.checks:
        why, value = (f"failed: {proof.error}", False) if proof.error else (f"not checked: {proof.skipped}", None)
        yield ResultRow(SUITE, f"{proof.name}, {why}", value, "")
        return
    worst = parity.worst(list(proof.checks))
    passed = all(check.passed for check in proof.checks)
    details = {"runs_on": proof.runs_on, "checks": [asdict(check) for check in proof.checks]}
    yield ResultRow(SUITE, f"{proof.name}, all {len(proof.checks)} checks passed", passed, "", details=details)
    at = {"at": worst.name, "allowed": worst.tolerance, "psnr_db": worst.psnr_db}
    name = f"{proof.name}, relative L2 of the worst check"
    yield ResultRow(SUITE, name, worst.relative_l2, "", details=at, doubt=None if passed else FAILED)
