"""The packages, copied into a folder where a test adds files to them: what an extension costs, and what it changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The folders of the four packages.
SOURCES = ("runtimes", "trainer", "export", "benchmarks")
#: Runs commands one after the other, each a list of words, in one process: importing PyTorch takes seconds.
_RUN = """
import sys
from importlib import import_module

for command in {commands!r}:
    sys.argv = command
    try:
        import_module(command[0] + ".cli").main()
    except SystemExit as exit_:
        if exit_.code:
            raise
"""


def files_to_add(what: str) -> int:
    """How many files CONTRIBUTING says that it costs to add `what`, such as "A sampler"."""
    found = re.search(rf"^- \*\*{what}\*\* \((\d+) files?\b", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert found, f"CONTRIBUTING does not say how many files {what.lower()} costs"
    return int(found[1])


class CopiedPackages:
    """Copies of drun, dtrain, dexport and dbench, which another process imports instead of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.added: list[str] = []
        for source in SOURCES:
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, path: str, text: str) -> None:
        """A new file, such as trainer/dtrain/models/mine.py; never another in the place of one that is there."""
        assert not (self.folder / path).exists()
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")
        self.added.append(path)

    def run(self, *commands: list[str]) -> str:
        """What they print together; they run in `folder`."""
        paths = os.pathsep.join(str(self.folder / source) for source in SOURCES)
        done = subprocess.run(
            [sys.executable, "-c", _RUN.format(commands=list(commands))],
            cwd=self.folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr
