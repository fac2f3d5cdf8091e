"""Opens a candidate whose golden file has passed on this very device.

Blank, black and noisy images are what people complain of most where a network runs on another device than the one that
proved it. The proof runs once, in a process of its own, for some devices end the process; its verdict is kept.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from drun import backends, cache
from drun.bundle.reading import Bundle
from drun.console import say, warn
from drun.errors import ParityError, UserError
from drun.files import write_json
from drun.foreign import read_json
from drun.run.opening.candidates import Candidate, candidates
from drun.run.opening.opened import Opened, open_candidate
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

NAME = "verdict.json"
#: arithmetic -> the safer ones, in the order in which they are tried: half precision fails first, and silently
#: (TensorRT #4837, #4723)
SAFER = {
    "tf32": ("fp32",),
    "bf16": ("fp32",),
    "fp16": ("bf16", "fp32"),
    "int8": ("bf16", "fp32"),
    **dict.fromkeys(("palette8", "weights8", "palette6", "palette4", "weights4"), ("fp16", "fp32")),
}


@dataclass(frozen=True)
class Verdict:
    """What a device made of the golden file."""

    passed: bool
    reason: str = ""  # why not, in words


class _NoVerdict(UserError):
    """The proof did not come to its end."""


def open_proven(bundle: Bundle, candidate: Candidate, options: RuntimeOptions = DEFAULT_OPTIONS) -> Opened:
    """Open a candidate for drawing images.

    Where the export's proof does not say what this device computes, the golden file runs first; if it fails, the next
    safer device of the backend, and then the next safer arithmetic, is taken, and this is said.

    Raises:
        ParityError: it passes with none of them. And as `open_candidate`.
    """
    runtime, artifact = backends.load(candidate.backend), candidate.artifact
    if artifact is None or runtime.setting(artifact, options) is None:
        return open_candidate(bundle, candidate, options)
    failed: list[str] = []
    for other, chosen in _attempts(bundle, candidate, options):
        name = f"{other.name} on {chosen.device or 'its usual device'}"
        verdict = verdict_of(bundle, other, chosen)
        if verdict.passed:
            if failed:
                warn(f"{name} runs instead")
            return open_candidate(bundle, other, chosen)
        failed.append(name)
        warn(f"{name} does not compute the golden file: {verdict.reason}")
    raise ParityError(f"{' and '.join(failed)} failed: use another backend, or prove it anew after drun cache --clear")


def _attempts(
    bundle: Bundle, candidate: Candidate, options: RuntimeOptions
) -> Iterator[tuple[Candidate, RuntimeOptions]]:
    """What is asked for, then what is safer."""
    yield candidate, options
    assert candidate.artifact is not None
    for chosen in backends.load(candidate.backend).safer(candidate.artifact, options):
        yield candidate, chosen
    others = candidates(bundle, (candidate.backend,), options.device)
    for arithmetic in SAFER.get(candidate.arithmetic, ()):
        if other := next((one for one in others if one.arithmetic == arithmetic), None):
            yield other, options


def verdict_of(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> Verdict:
    """The verdict on a candidate, from the cache if the golden file has run on this device."""
    assert candidate.artifact is not None
    runtime, artifact = backends.load(candidate.backend), candidate.artifact
    facts = {
        "golden": bundle.manifest.golden.sha256,
        "files": [entry.sha256 for entry in artifact.files],
        "candidate": candidate.name,
        "options": asdict(options) | {"trust": False},
        "setting": dict(runtime.setting(artifact, options) or {}),
    }
    key = hashlib.sha256(json.dumps(["verdict", facts], sort_keys=True).encode()).hexdigest()

    def write(path: Path) -> None:
        say(f"{candidate.name} computes the golden file on {options.device or 'its device'}, once …")
        write_json(path, asdict(_prove(bundle, candidate, options)))

    try:
        return cache.fetch(key, NAME, f"verdict on {candidate.name} of {bundle.name}", 1 << 12, write, _read)
    except _NoVerdict as error:  # it may be another one next time
        return Verdict(False, str(error))


def _read(path: Path) -> Verdict:
    found: Mapping[str, object] = read_json(path)
    return Verdict(found.get("passed") is True, str(found.get("reason")))


def _prove(bundle: Bundle, candidate: Candidate, options: RuntimeOptions) -> Verdict:
    """Run `drun check` in a process of its own. Raises _NoVerdict if it does not come to compare numbers."""
    assert candidate.artifact is not None
    words = [sys.executable, "-m", "drun", "check", str(bundle.path), "--backend", candidate.backend]
    words += ["--artifact", candidate.artifact.id, "--precision", candidate.arithmetic]
    words += [] if options.device is None else ["--device", options.device]
    words += ["--trust"] if options.trust else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Verdict(True)
    if done.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        raise _NoVerdict("its process was killed")
    if done.returncode < 0:
        return Verdict(False, f"its process ended by signal {-done.returncode}")
    lines = done.stderr.strip().splitlines()
    why = lines[-1].removeprefix("error: ") if lines else f"exit code {done.returncode}"
    if done.returncode != ParityError.exit_code:
        raise _NoVerdict(why)
    return Verdict(False, why)
