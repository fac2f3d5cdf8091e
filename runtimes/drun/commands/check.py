"""`drun check`: the proof that a bundle carries, repeated on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from drun.bundle.reading import Bundle, open_bundle
from drun.commands.suggest import warn_of_drift, warn_of_unproven
from drun.console import answer, progress, say, silent, warn
from drun.errors import BackendUnavailable, ConfigError, DeviceUnavailable, NotTrusted, ParityError, UserError
from drun.run import parity
from drun.run.opening import Candidate, candidates, choose, open_candidate, unavailable
from drun.settings import RuntimeOptions


def check(
    path: Path | None,
    backend: str | None,
    precision: str | None,
    artifact: str | None,
    options: RuntimeOptions,
    check_all: bool = False,
) -> None:
    bundle = open_bundle(path)
    bundle.check_files()
    say(f"{bundle.name}: every sha256 is right")
    for name in bundle.unlisted():
        warn(f"the manifest of '{bundle.path}' does not list '{name}': nothing opens it")
    if check_all:
        if precision or artifact:
            raise ConfigError("--all checks every artifact and precision: leave out --precision and --artifact")
        _check_all(bundle, backend, options)
    else:
        _check_one(bundle, choose(bundle, backend, precision, artifact, options.device), options)


def _check_one(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> None:
    if candidate.artifact is None:
        raise ConfigError(f"backend '{candidate.backend}' opens no artifact of a bundle, so there is nothing to check")
    warn_of_unproven(bundle, candidate.artifact, "these are its first checks")
    with open_candidate(bundle, candidate, options) as opened, progress() as report:
        results = parity.check(bundle, opened, report)
        where, remark, findings = opened.describe(), opened.backend.remark(), opened.backend.findings()
    say(parity_table(results))
    if remark:
        say(remark)
    answer({"bundle": bundle.path, "targets": [_document(candidate, results) | {"numbers": findings}], "skipped": {}})
    failed = [result for result in results if not result.passed]
    if failed:
        raise ParityError(
            f"{len(failed)} of {len(results)} checks on {where} failed, the worst at relative L2 "
            f"{parity.worst(failed).relative_l2:.2g}: do not use this target"
        )
    say(f"parity with eager PyTorch holds on {where}: {len(results)} of {len(results)} checks")
    if candidate.artifact.parity and candidate.artifact.parity.get("quick"):
        say("these are the few checks of dexport --quick: export again without it for the full proof")


# ---- all of them ----------------------------------------------------------------------------------------


def _check_all(bundle: Bundle, backend: str | None, options: RuntimeOptions) -> None:
    """A line for every artifact x able backend x arithmetic."""
    found = candidates(bundle, () if backend is None else (backend,), options.device)
    skipped = {} if backend else unavailable(bundle)
    targets = []
    for artifact in {one.artifact.id: one.artifact for one in found if one.artifact}.values():
        warn_of_drift(bundle, artifact)
    with progress() as report:
        for number, candidate in enumerate(found):
            report("proving targets", number, len(found), candidate.name)
            try:
                targets.append(_document(candidate, _results(bundle, candidate, options)))
            except (NotTrusted, ConfigError, DeviceUnavailable) as error:  # which say nothing of the target
                skipped[candidate.name] = str(error)
            except UserError as error:
                targets.append(_document(candidate, [], str(error)))
        report("proving targets", len(found), len(found))
    say(_targets_table(targets, skipped))
    if not targets:
        raise BackendUnavailable(f"no target of '{bundle.path}' was checked: {next(iter(skipped.values()))}")
    answer({"bundle": bundle.path, "targets": targets, "skipped": skipped})
    if failed := [target["name"] for target in targets if not target["passed"]]:
        raise ParityError(f"{len(failed)} of {len(targets)} targets failed: do not use {', '.join(failed)}")
    say(f"parity with eager PyTorch holds on {len(targets)} of {len(targets)} targets")


def _targets_table(targets: list[dict[str, Any]], skipped: dict[str, str]) -> str:
    width = max(map(len, ["target", *(target["name"] for target in targets), *skipped]))
    lines = [f"{'target':{width}}  checks  relative L2  allowed  PSNR dB  of"]
    lines += [f"{target['name']:{width}}  {_line(target)}" for target in targets]
    lines += [f"{name:{width}}  skipped: {why}" for name, why in skipped.items()]
    return "\n".join(lines)


def _document(candidate: Candidate, results: list[parity.Comparison], error: str | None = None) -> dict[str, Any]:
    """The JSON of one target. A target without comparisons has not passed."""
    artifact = candidate.artifact
    return {
        "name": candidate.name,
        "backend": candidate.backend,
        "artifact": artifact and artifact.id,
        "arithmetic": candidate.arithmetic,
        "passed": bool(results) and all(result.passed for result in results),
        "checks": [asdict(result) | {"passed": result.passed} for result in results],
        "worst": asdict(parity.worst(results)) | {"allowed": parity.worst(results).allowed} if results else None,
        "error": error,
    }


def _line(target: dict[str, Any]) -> str:
    worst, num_checks = target["worst"], len(target["checks"])
    if worst is None:
        return f"FAILED: {target['error']}"
    num_passed = sum(check["passed"] for check in target["checks"])
    return (
        f"{num_passed:>3}/{num_checks:<2}  {worst['relative_l2']:11.2e}  {worst['allowed']:>7}  "
        f"{worst['psnr_db']:7.1f}  {worst['name']}{'' if target['passed'] else '  FAILED'}"
    )


def _results(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> list[parity.Comparison]:
    with open_candidate(bundle, candidate, options) as opened:
        return parity.check(bundle, opened, silent)


def parity_table(results: list[parity.Comparison]) -> str:
    """The comparisons as aligned columns, for people."""
    width = max(len(result.name) for result in results)
    head = f"{'check':{width}}  relative L2  allowed    max abs    p99 abs   mean abs  PSNR dB"
    rows = [
        f"{r.name:{width}}  {r.relative_l2:11.2e}  {r.allowed:>7}  {r.max_abs:9.2e}  {r.p99_abs:9.2e}  "
        f"{r.mean_abs:9.2e}  {r.psnr_db:7.1f}{'' if r.passed else '  FAILED'}"
        for r in results
    ]
    return "\n".join([head, *rows])
