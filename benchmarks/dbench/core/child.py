"""The process that `dbench.core.fresh` starts and measures: `python -m dbench.core.child MODE ...`.

The last line of its output is the answer. It imports almost nothing, because a forked process counts its parent's
memory as its own peak.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peak(*arguments: str) -> None:
    """Run a Python command line and say the largest resident memory it had, bytes."""
    code = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False).returncode
    answer(_peak_bytes_of_children())
    sys.exit(code)


def answer(value: object) -> None:
    from drun.console import say  # imported here: this process must be smaller than the one that it weighs

    say(str(value))


def _peak_bytes_of_children() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit_bytes


def imports(module: str, *arguments: str) -> None:
    """Run `drun` and say whether it imported `module`."""
    from drun.cli import main

    sys.argv = ["drun", *arguments]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    answer(module in sys.modules)


def session(job: str) -> None:
    """Import the runtime of a backend, open a candidate and call it `num_calls` times.

    job: the JSON of `fresh.session_peak_bytes`.
    """
    import json

    from dbench.core.inputs import example
    from drun import backends
    from drun.bundle import reading as bundles
    from drun.run.opening import choose, open_candidate
    from drun.settings import RuntimeOptions

    asked = json.loads(job)
    bundle = bundles.read(Path(asked["bundle"]))
    inputs = example(bundle, asked["batch"])
    backends.load(asked["choice"]["backend"]).import_library()
    if asked["num_calls"]:
        candidate = choose(bundle, **asked["choice"], device=asked["options"]["device"])
        opened = open_candidate(bundle, candidate, RuntimeOptions(**asked["options"]))
        for _ in range(asked["num_calls"]):
            opened.backend.predict(*inputs)
    answer("done")


if __name__ == "__main__":
    modes: dict[str, Callable[..., None]] = {"peak": peak, "imports": imports, "session": session}
    modes[sys.argv[1]](*sys.argv[2:])
