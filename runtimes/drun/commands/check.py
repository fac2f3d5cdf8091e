"""`drun check`: the proof that a bundle carries, repeated on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drun import backends
from drun.backends import RuntimeOptions
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle, open_bundle
from drun.console import progress, say, warn
from drun.errors import BackendUnavailable, ConfigError, NotTrusted, ParityError, UserError
from drun.run import parity
from drun.run.opening import Candidate, candidates, choose, open_candidate


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
        _check_one(bundle, choose(bundle, backend, precision, artifact), options)


def _check_one(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> None:
    if candidate.artifact is None:
        raise ConfigError(f"backend '{candidate.backend}' opens no artifact of a bundle, so there is nothing to check")
    warn_of_unproven(bundle, candidate.artifact)
    with open_candidate(bundle, candidate, options) as opened, progress() as report:
        results = parity.check(bundle, opened, report)
        where = opened.describe()
    say(parity_table(results))
    failed = [result for result in results if not result.passed]
    if failed:
        raise ParityError(
            f"{len(failed)} of {len(results)} checks on {where} failed, the worst at relative L2 "
            f"{parity.worst(failed).relative_l2:.2g}: do not use this target"
        )
    say(f"parity with eager PyTorch holds on {where}: {len(results)} of {len(results)} checks")
    if candidate.artifact.parity and candidate.artifact.parity.get("quick"):
        say("these are the few checks of dexport --quick: export again without it for the full proof")


def warn_of_unproven(bundle: Bundle, artifact: Artifact | None) -> None:
    """Say so if nobody has proven an artifact where it was made."""
    if artifact is not None and artifact.parity is None:
        warn(f"{artifact.id} of '{bundle.name}' was not proven where it was made: drun check proves it here")


# ---- all of them ----------------------------------------------------------------------------------------


def _check_all(bundle: Bundle, backend: str | None, options: RuntimeOptions) -> None:
    """A line for every artifact x able backend x arithmetic."""
    found = candidates(bundle, () if backend is None else (backend,))
    width = max(len(candidate.name) for candidate in found)
    say(f"{'target':{width}}  checks  relative L2  allowed  PSNR dB  of")
    passed: list[Candidate] = []
    failed: list[Candidate] = []
    for candidate in found:
        try:
            results = _results(bundle, candidate, options)
        except NotTrusted as error:
            say(f"{candidate.name:{width}}  skipped: {error}")
            continue
        except UserError as error:
            failed.append(candidate)
            say(f"{candidate.name:{width}}  FAILED: {error}")
            continue
        say(f"{candidate.name:{width}}  {_summary(results)}")
        (passed if all(result.passed for result in results) else failed).append(candidate)
    for line in _missing(bundle, backend):
        say(line)
    if failed:
        names = ", ".join(candidate.name for candidate in failed)
        raise ParityError(f"{len(failed)} of {len(failed) + len(passed)} targets failed: do not use {names}")
    if not passed:
        raise BackendUnavailable(f"no target of '{bundle.path}' was checked: see 'drun backends'")
    say(f"parity with eager PyTorch holds on {len(passed)} of {len(passed)} targets")


def _results(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> list[parity.Comparison]:
    with open_candidate(bundle, candidate, options) as opened, progress() as report:
        return parity.check(bundle, opened, report)


def _summary(results: list[parity.Comparison]) -> str:
    worst = parity.worst(results)
    passed = sum(result.passed for result in results)
    return (
        f"{passed:>3}/{len(results):<2}  {worst.relative_l2:11.2e}  {worst.tolerance:7.0e}  {worst.psnr_db:7.1f}  "
        f"{worst.name}{'' if passed == len(results) else '  FAILED'}"
    )


def _missing(bundle: Bundle, backend: str | None) -> Iterator[str]:
    """The backends that could open something of the bundle, but not here."""
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    for name in backends.names() if backend is None else ():
        runtime = backends.load(name)
        if held & set(runtime.formats) and not (probe := runtime.probe()).available:
            yield f"{name}: skipped, {probe.detail}; install it with: {probe.install}"


def parity_table(results: list[parity.Comparison]) -> str:
    """Aligned columns, for people."""
    width = max(len(result.name) for result in results)
    head = f"{'check':{width}}  relative L2  allowed    max abs    p99 abs   mean abs  PSNR dB"
    rows = [
        f"{r.name:{width}}  {r.relative_l2:11.2e}  {r.tolerance:7.0e}  {r.max_abs:9.2e}  {r.p99_abs:9.2e}  "
        f"{r.mean_abs:9.2e}  {r.psnr_db:7.1f}{'' if r.passed else '  FAILED'}"
        for r in results
    ]
    return "\n".join([head, *rows])
