"""Ten kills of a run lose nothing, and the files are those of a run that nobody disturbed, byte for byte."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MAIN = "import sys; sys.argv = ['drun', *sys.argv[1:]]; from drun.cli import main; main()"
#: A run of a second or two, in which a kill may fall anywhere.
RUN = ["--steps", "60", "--sampler", "ddpm", "-n", "30", "--batch", "4", "--save-raw"]


def start(bundle: Path, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MAIN, "--bundle", str(bundle), "--out", str(folder), *RUN, *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the record, which holds the command."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def finish(bundle: Path, folder: Path, *options: str) -> None:
    with start(bundle, folder, *options) as process:
        assert process.wait(timeout=120) == 0


def test_ten_kills_and_resumptions(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle, folder, draw = make_bundle(conditional=True), tmp_path / "killed", random.Random(0)
    finish(bundle, tmp_path / "whole", "--threads", "1")
    whole = files(tmp_path / "whole")
    finished: dict[str, bytes] = {}
    for _ in range(10):
        with start(bundle, folder, "--threads", draw.choice("12")) as process:
            deadline = time.monotonic() + 60
            while len(list(folder.glob("0*.png"))) <= len(finished) // 2 and time.monotonic() < deadline:
                if process.poll() is not None:
                    break
                time.sleep(0.005)
            time.sleep(draw.random() * 0.05)
            process.kill()
        now = {name: content for name, content in files(folder).items() if not name.rpartition("/")[2].startswith(".")}
        assert finished.items() <= now.items()  # what was finished is still there, and the same
        assert now.items() <= whole.items()  # and no file under its final name is another than it should be
        finished = now
    finish(bundle, folder)
    assert files(folder) == whole


def test_shards_and_threads_give_the_same_bytes(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle()
    finish(bundle, tmp_path / "whole", "--threads", "2")
    for shard in (2, 0, 1):
        finish(bundle, tmp_path / "shards", "--shard", f"{shard}/3", "--threads", "1")
    assert files(tmp_path / "shards") == files(tmp_path / "whole")
