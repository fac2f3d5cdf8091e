"""`drun check`: the proof that a bundle carries, repeated on this machine."""

from __future__ import annotations

from pathlib import Path

from drun import backends as registry
from drun.bundle.reading import open_bundle
from drun.console import progress, say, warn
from drun.errors import ConfigError, ParityError
from drun.run import parity


def check(path: Path | None, backend_id: str, precision: str | None, threads: int) -> None:
    bundle = open_bundle(path)
    bundle.check_files()
    say(f"{bundle.name}: every sha256 is right")
    for name in bundle.unlisted():
        warn(f"the manifest of '{bundle.path}' does not list '{name}': nothing opens it")
    backend = registry.open_backend(backend_id, bundle, precision, {"threads": threads})
    if not backend.formats:
        raise ConfigError(f"backend '{backend_id}' opens no artifact of a bundle, so there is nothing to check")
    artifact = bundle.artifact(backend.formats, precision)
    with progress() as report:
        results = parity.check(bundle, backend, artifact, report)
    say(parity_table(results))
    failed = [result for result in results if not result.passed]
    if failed:
        raise ParityError(
            f"{len(failed)} of {len(results)} checks on {backend.describe()} failed, the worst at relative L2 "
            f"{parity.worst(failed).relative_l2:.2g}: do not use this target"
        )
    say(f"parity with eager PyTorch holds on {backend.describe()}: {len(results)} of {len(results)} checks")
    if artifact.parity and artifact.parity.get("quick"):
        say("these are the few checks of dexport --quick: export again without it for the full proof")


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
