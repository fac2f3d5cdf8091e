"""The process that `dbench.core.fresh` starts and measures: `python -m dbench.core.child MODE ...`.

The last line is the answer. It imports almost nothing, for a forked process counts its parent's memory as its own peak.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drun.console import say


def peak(*arguments: str) -> None:
    """Run a Python command line and say the largest resident memory it had, bytes."""
    code = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False).returncode
    say(str(_peak_bytes_of_children()))
    sys.exit(code)


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
    with suppress(SystemExit):
        main()
    say(str(module in sys.modules))


def session(bundle: str, backend: str, batch: str, num_threads: str, num_calls: str) -> None:
    """Import the runtime of a backend, open the bundle with it, and call it `num_calls` times."""
    from dbench.core.inputs import example
    from drun import backends
    from drun.bundle import reading as bundles
    from drun.run.opening import choose, open_candidate

    opened = bundles.read(Path(bundle))
    inputs = example(opened, int(batch))
    backends.load(backend).probe()
    if int(num_calls):
        options = backends.RuntimeOptions(threads=int(num_threads))
        runtime = open_candidate(opened, choose(opened, backend), options).backend
        for _ in range(int(num_calls)):
            runtime.predict(*inputs)
    say("done")


if __name__ == "__main__":
    modes: dict[str, Callable[..., None]] = {"peak": peak, "imports": imports, "session": session}
    modes[sys.argv[1]](*sys.argv[2:])
