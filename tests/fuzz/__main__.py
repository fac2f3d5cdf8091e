"""The long form of the tests of damage and kills: `make fuzz`. Seeded, and resumable by the same command.

It prints a table of figures at its end, and exits with 1 if it found something.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Longer than this a reader hangs.
HANG_S = 20.0
#: Reading torch and making what is right take longer.
START_S = 300.0
BAD = ("traceback", "accepted", "hang", "abort")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000, help="damaged files, over all readers")
    parser.add_argument("--kills", type=int, default=100, help="killed commands, over all writers")
    parser.add_argument("--seed", type=int, default=0, help="another one damages otherwise")
    parser.add_argument("--out", type=Path, default=Path("out", "fuzz"), help="folder of results.jsonl")
    parser.add_argument("--only", nargs="*", help="names of readers and writers")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as state:
        os.environ |= {"DEXPORT_CACHE": cache, "DEXPORT_STATE": state}  # the user's own would fill with what is damaged
        return fuzz(options)


def fuzz(options: argparse.Namespace) -> int:
    from kills import WRITERS
    from readers import READERS

    records = Records(options.out / f"seed-{options.seed}.jsonl")
    chosen = options.only or [*READERS, *WRITERS]
    for name, count in shares({key: share for key, (_, share) in READERS.items()}, options.mutants).items():
        if name in chosen:
            read_mutants(name, count, options.seed, records)
    for name, count in shares({key: share for key, (_, share) in WRITERS.items()}, options.kills).items():
        if name in chosen:
            kill_writer(name, count, options.seed, records)
    return report(records)


def shares(weights: dict[str, float], total: int) -> dict[str, int]:
    """`total` divided by weight, each rounded up."""
    whole = sum(weights.values())
    return {name: math.ceil(total * weight / whole) for name, weight in weights.items()}


class Records:
    """What was found so far, a line each."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.lines = path, []
        if path.is_file():
            self.lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def add(self, **fields: Any) -> None:
        self.lines.append(fields)
        with self.path.open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def done(self, name: str) -> int:
        """The number of the first that is not there."""
        return 1 + max((line["number"] for line in self.lines if line["name"] == name), default=-1)


# ---- mutants --------------------------------------------------------------------------------------------


def read_mutants(name: str, count: int, seed: int, records: Records) -> None:
    while (start := records.done(name)) < count:
        print(f"{name}: mutants {start} to {count}", file=sys.stderr)
        command = [sys.executable, str(HERE / "worker.py"), name, str(seed), str(start), str(count)]
        with (
            tempfile.TemporaryFile() as log,  # a pipe that nobody empties would stop who writes much
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
        ):
            last = follow(process, name, records)
            process.kill()
            process.wait()
            log.seek(0)
            errors = log.read()
        if last is None:
            if records.done(name) < count:
                raise SystemExit(f"{name} did not start:\n{errors.decode()[-2000:]}")
        elif last["state"] == "begun":
            state = "abort" if process.returncode not in (0, -9) else "hang"
            where = f"exit code {process.returncode}: {errors.decode()[-200:]}"
            records.add(name=name, number=last["number"], state=state, where=where, seconds=0)


def follow(process: subprocess.Popen[bytes], name: str, records: Records) -> dict[str, Any] | None:
    """Note what a worker says until it ends or hangs; its last words."""
    assert process.stdout is not None
    last: dict[str, Any] | None = None
    buffer = b""
    while select.select([process.stdout], [], [], HANG_S if last else START_S)[0]:
        if not (chunk := os.read(process.stdout.fileno(), 1 << 16)):
            break
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            last = json.loads(line)
            if last["state"] != "begun":
                records.add(name=name, **last)
    else:
        return last
    process.wait()
    return last


def kill_writer(name: str, count: int, seed: int, records: Records) -> None:
    from kills import kill

    if records.done(name) >= count:
        return
    print(f"{name}: {count} kills", file=sys.stderr)
    scratch = Path(tempfile.mkdtemp())
    try:
        found = kill(name, count, seed, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for number in range(count):
        mine = [text for text in found if text.startswith(f"kill {number}:")]
        mine += [text for text in found if number == count - 1 and not text.startswith("kill")]
        records.add(name=name, number=number, state="lost" if mine else "kept", where="; ".join(mine), seconds=0)


# ---- the table ------------------------------------------------------------------------------------------


def report(records: Records) -> int:
    names = list(dict.fromkeys(line["name"] for line in records.lines))
    states = ("read", "refused", "traceback", "accepted", "hang", "abort", "kept", "lost")
    print(f"| {'what':10} | {'number':>6} | " + " | ".join(f"{state:>9}" for state in states) + " | slowest, s |")
    print(f"|{'-' * 12}|{'-' * 7}:|" + "|".join("-" * 10 + ":" for _ in states) + "|-----------:|")
    for name in [*names, "all"]:
        lines = [line for line in records.lines if name in ("all", line["name"])]
        counts = Counter(line["state"] for line in lines)
        slowest = max(line["seconds"] for line in lines)
        cells = " | ".join(f"{counts[state]:9}" for state in states)
        print(f"| {name:10} | {len(lines):6} | {cells} | {slowest:10.2f} |")
    bad = [line for line in records.lines if line["state"] in (*BAD, "lost")]
    for line in bad[:50]:
        print(f"{line['name']} {line['number']}: {line['state']}: {line['where']}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
