"""One process that reads mutants of one kind, a line on stdout before each and after it."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from readers import READERS, Reader

from drun.errors import UserError


def work(name: str, seed: int, start: int, stop: int) -> None:
    """Mutants number `start` to `stop - 1`."""
    reader, _ = READERS[name]
    with tempfile.TemporaryDirectory() as scratch:
        whole, copy = Path(scratch, "whole"), Path(scratch, "copy")
        whole.mkdir()
        reader.make(whole)
        shutil.copytree(whole, copy)
        expected = reader.read(copy)
        for number in range(start, stop):
            say(number=number, state="begun")
            shutil.rmtree(copy)
            shutil.copytree(whole, copy)
            say(number=number, **judge(reader, copy, random.Random(f"{seed} {name} {number}"), expected))


def judge(reader: Reader, folder: Path, draw: random.Random, expected: Any) -> dict[str, Any]:
    """state: read | refused | accepted (damage that nobody saw) | traceback."""
    reader.attack(folder, draw)
    begun = time.monotonic()
    try:
        got, state, where = reader.read(folder), "read", ""
        if got is not None and got != expected:
            state, where = "accepted", "other content than before"
    except UserError as error:
        state, where = "refused", ""
        if not str(error).strip() or "\n" in str(error):
            state, where = "traceback", f"not a sentence: {error!r}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        state, where = "traceback", f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error}"[:300]
    return {"state": state, "where": where, "seconds": round(time.monotonic() - begun, 3)}


def say(**fields: Any) -> None:
    print(json.dumps(fields), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr  # what readers say is nobody's answer
    work(sys.argv[1], *map(int, sys.argv[2:]))
