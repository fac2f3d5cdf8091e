"""Runs on a full disk lose nothing that was finished, and memory grows with neither images nor steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import draw, identities, pngs, results

from drun.bundle import card as cards
from drun.bundle.reading import Bundle

MakeBundle = Callable[..., Path]


SAMPLE = ["--backend", "null", "--sampler", "ddpm", "--steps", "5", "--seed", "3", "--batch", "3"]


Python = Callable[..., "subprocess.CompletedProcess[str]"]


#: No file may grow beyond a number of bytes. Python ignores the signal, so a longer write fails as on a full disk.
LIMITED_COMMAND = """
import resource, sys
from drun.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


def test_no_room_for_the_packed_samples(bundle: Bundle, tmp_path: Path, python: Python) -> None:
    """All images fit, but not the file of all."""
    folder = tmp_path / "out"
    arguments = [*SAMPLE, "--bundle", bundle.path, "--out", folder, "-n", 40]
    result = python("-c", LIMITED_COMMAND, 4000, *arguments)
    assert result.returncode == 1
    message = f"error: cannot write '{folder}/samples.npz': File too large; what was finished before is kept"
    assert result.stderr.splitlines()[-1] == message
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{i:06d}.png" for i in range(40)), "run.json"]
    before = identities(folder)
    assert draw(bundle, folder, num_images=40) == 0
    assert identities(folder) == before
    draw(bundle, tmp_path / "whole", num_images=40)
    assert results(folder) == results(tmp_path / "whole")


#: The limit falls when the first batch is written and the second one has been computed.
LIMITED_RUN = """
import resource, sys, time
from pathlib import Path
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.diffusion import samplers
from drun.backends import null
from drun.run.folder import run
from drun.run.opening import Candidate, Opened
from drun.run.output import Output
from drun.settings import SamplingSettings
from drun.run.session import Session

def report(what, done, total):
    if done == 30:
        while not (output.folder / "000002.png").exists():
            time.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))

bundle, output = bundles.read(Path(sys.argv[1])), Output(Path(sys.argv[2]), 7, 3)
settings = SamplingSettings("ddpm", samplers.resolve("ddpm", {}), 5, 3)
session = Session(bundle, Opened(Candidate("null", None, "fp32"), null.Runtime(bundle)))
run(session, session.sampling(settings), output, report)
"""


def test_no_room_for_an_image(bundle: Bundle, tmp_path: Path, python: Python, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "out"
    result = python("-c", LIMITED_RUN, bundle.path, folder)
    message = f"UserError: cannot write '{folder}/000003.png': File too large; what was finished before is kept"
    assert message in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "000002.png", "run.json"]
    before = identities(folder)
    assert draw(bundle, folder) == 4
    assert {name: identities(folder)[name] for name in before} == before
    assert results(folder) == whole


#: A disk of 64 KiB of its own: fill it, look at what is there, give it room, go on.
FULL_DISK = """
disk=$1 seen=$2 done=$3; shift 3
mount -t tmpfs -o size=64k none "$disk" || exit 99
"$@"; code=$?
cp -r "$disk" "$seen"
mount -o remount,size=8m "$disk" || exit 99
"$@" && cp -r "$disk" "$done" && exit $code
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a disk of its own")
def test_a_disk_that_fills_up(bundle: Bundle, tmp_path: Path) -> None:
    disk, seen, done = (tmp_path / name for name in ("disk", "seen", "done"))
    disk.mkdir()
    command = [sys.executable, "-c", "from drun.cli import main; main()", *SAMPLE, "-n", "20", "--out", disk]
    command += ["--bundle", bundle.path]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", disk, seen, done, *command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if result.returncode == 99 or "unshare" in result.stderr:
        pytest.skip("may not mount a disk here")
    assert result.returncode == 1
    assert "No space left on device; what was finished before is kept" in result.stderr
    draw(bundle, tmp_path / "whole", num_images=20)
    whole, finished = results(tmp_path / "whole"), pngs(seen)
    assert 5 < len(finished) < 20
    assert finished == {name: whole[name] for name in finished}
    assert {path.name for path in seen.iterdir()} == {*finished, "run.json"}
    assert results(done) == whole


#: The high-water mark of this process alone; getrusage would count the parent's before exec.
MEASURED_COMMAND = """
from pathlib import Path
from drun.cli import main
try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.fixture
def peak_bytes(make_bundle: MakeBundle, tmp_path: Path, python: Python) -> Callable[..., int]:
    """`peak_bytes(*options)`: the memory of a run of 64 x 64 images on the null backend."""
    process = {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
    path = make_bundle(process=process, data=cards.StateSpace("pixel", (3, 64, 64)), artifacts=())

    def measure(*options: object) -> int:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        command = ["--backend", "null", "--bundle", path, "--out", tmp_path / "out", "--save-raw", *options]
        result = python("-c", MEASURED_COMMAND, *command)
        assert result.returncode == 0, result.stderr
        return int(result.stdout.splitlines()[-1]) * 1024

    return measure


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_does_not_grow_with_images(peak_bytes: Callable[..., int]) -> None:
    """Kept as floats, 384 more images would be 18 MiB; as bytes, 4.5."""
    few, many = (peak_bytes("--steps", 3, "-n", count) for count in (64, 448))
    assert many - few < 3 * 2**20


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_does_not_grow_with_steps(peak_bytes: Callable[..., int], tmp_path: Path) -> None:
    """With the animation, which shows 120 frames of either run. Kept, 480 more states would be 45 MiB."""
    few, many = (
        peak_bytes("--steps", count, "-n", 2, "--batch", 2, "--trajectory", tmp_path / "t.webp") for count in (120, 600)
    )
    assert many - few < 5 * 2**20
