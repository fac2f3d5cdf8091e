"""Every writer is killed at a random moment, again and again; afterwards nothing is lost and nothing half-written."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from readers import SMALL_UNET, content_of, helpers, small_unet

from drun.bundle import reading as bundles

PATHS = ("runtimes", "trainer", "export", "benchmarks")


class Writer(ABC):
    """A command that writes into `folder / "out"`."""

    package: str

    @abstractmethod
    def make(self, folder: Path) -> None:
        """What the command needs."""

    @abstractmethod
    def arguments(self, folder: Path) -> list[str]:
        """Of the command that starts, and that goes on."""

    @abstractmethod
    def finished(self, folder: Path) -> dict[str, Any]:
        """All that lies there under a final name, read; raises if something is half-written."""

    def begin_again(self, folder: Path) -> None:
        """Undo what the kills so far have left."""
        shutil.rmtree(folder / "out", ignore_errors=True)

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.argv = ['{self.package}', *sys.argv[1:]]; from {self.package}.cli import main; main()"
        command = [sys.executable, "-c", code, *self.arguments(folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self, folder: Path) -> float:
        """Run it to its end; seconds."""
        begun = time.monotonic()
        with self.start(folder) as process:
            _, errors = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(f"{self.package} ended with {process.returncode}: {errors.decode()[-500:]}")
        return time.monotonic() - begun


class Drun(Writer):
    """Images; at the end byte for byte those of a run that nobody disturbed."""

    package = "drun"

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)

    def arguments(self, folder: Path) -> list[str]:
        run = ["--steps", "60", "--sampler", "ddpm", "-n", "40", "--batch", "4", "--save-raw"]
        return ["--bundle", str(folder / "b"), "--out", str(folder / "out"), *run]

    def finished(self, folder: Path) -> dict[str, Any]:
        return {name: content for name, content in read_files(folder / "out").items() if name != "run.json"}


class Dtrain(Writer):
    """Checkpoints; at the end the weights of a run that nobody disturbed."""

    package = "dtrain"

    def make(self, folder: Path) -> None:
        """The digits need nothing."""

    def arguments(self, folder: Path) -> list[str]:
        settings = [*SMALL_UNET, "train.steps=40", "train.save_every=2", "train.keep_checkpoints=100"]
        flags = ["--resume"] if list((folder / "out").glob("*.pt")) else []
        words = [word for setting in settings for word in ("--set", setting)]
        return ["run", "digits-unet", "--device", "cpu", "--out", str(folder / "out"), *words, *flags]

    def finished(self, folder: Path) -> dict[str, Any]:
        return {path.name: content_of(path) for path in sorted((folder / "out").glob("*.pt"))}


class Dexport(Writer):
    """A bundle: the old one or the new one, and always a whole one."""

    package = "dexport"

    def make(self, folder: Path) -> None:
        shutil.copy(small_unet(folder / "run"), folder / "a.pt")
        self.finish(folder)

    def arguments(self, folder: Path) -> list[str]:
        return ["onnx", str(folder / "a.pt"), "-o", str(folder / "out"), "--trajectory-steps", "2", "--batch", "2"]

    def finished(self, folder: Path) -> dict[str, Any]:
        bundle = bundles.read(folder / "out")
        bundle.check_files()
        return {"bundle": bundle.manifest.model.checkpoint["sha256"]}

    def begin_again(self, folder: Path) -> None:
        """A bundle that is there is to be replaced."""


class Added(Dexport):
    """One more artifact of a bundle: it is there, or it is not, and the others always are.

    Args:
        target: that is killed.
    """

    def __init__(self, target: str) -> None:
        self.target = target

    def make(self, folder: Path) -> None:
        super().make(folder)
        shutil.copytree(folder / "out", folder / "first")

    def begin_again(self, folder: Path) -> None:
        shutil.rmtree(folder / "out")
        shutil.copytree(folder / "first", folder / "out")

    def arguments(self, folder: Path) -> list[str]:
        if not (folder / "first").exists():
            return super().arguments(folder)
        if self.target == "openvino":
            return ["openvino", str(folder / "out")]
        return [self.target, str(folder / "a.pt"), "-o", str(folder / "out"), "--trajectory-steps", "2", "--batch", "2"]

    def finished(self, folder: Path) -> dict[str, Any]:
        bundle = bundles.read(folder / "out")
        bundle.check_files()
        if unlisted := bundle.unlisted():
            raise RuntimeError(f"'{unlisted[0]}' is not listed")
        return {artifact.id: [entry.sha256 for entry in artifact.files] for artifact in bundle.manifest.artifacts}


class Tiles(Writer):
    """A folder of tiles: all of them, or nothing."""

    package = "dtrain"

    def make(self, folder: Path) -> None:
        (folder / "in").mkdir()
        for i in range(4):
            pixels = np.random.default_rng(i).integers(256, size=(600, 600, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "in" / f"{i}.png")

    def arguments(self, folder: Path) -> list[str]:
        shutil.rmtree(folder / "out", ignore_errors=True)  # the command refuses a folder that is there
        return ["tiles", str(folder / "in"), str(folder / "out"), "--size", "32"]

    def finished(self, folder: Path) -> dict[str, Any]:
        found = read_files(folder / "out")
        if found and "tiles.json" not in found:
            raise RuntimeError(f"{len(found)} tiles are there, and no tiles.json")
        return {}


def read_files(folder: Path) -> dict[str, bytes]:
    """Of final names."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".part" not in str(path.relative_to(folder))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


#: name -> (writer, share of the kills)
WRITERS: dict[str, tuple[Writer, float]] = {
    "drun": (Drun(), 5), "dtrain": (Dtrain(), 2), "dexport": (Dexport(), 2), "tiles": (Tiles(), 1),
    "openvino": (Added("openvino"), 2), "pt2": (Added("pt2"), 2),
}  # fmt: skip


def kill(name: str, count: int, seed: int, scratch: Path) -> list[str]:
    """Kill a writer `count` times; what was lost or half-written, in words."""
    writer, draw, found = WRITERS[name][0], random.Random(f"{seed} {name}"), []
    quiet, folder = scratch / "quiet", scratch / "killed"
    for place in (quiet, folder):
        place.mkdir(parents=True)
        writer.make(place)
    seconds = writer.finish(quiet)
    whole, before = writer.finished(quiet), {}
    for number in range(count):
        if number % 10 == 0:
            writer.begin_again(folder)
            before = {}
        with writer.start(folder) as process:
            time.sleep(draw.uniform(0.2, 1.0) * seconds)
            process.kill()
        try:
            now = writer.finished(folder)
        except Exception as error:
            found.append(f"kill {number}: {type(error).__name__}: {error}"[:300])
            continue
        found += [f"kill {number}: '{key}' was lost" for key in before if key not in now]
        found += [f"kill {number}: '{key}' is another" for key in now if key in whole and now[key] != whole[key]]
        before = now
    writer.finish(folder)
    if writer.finished(folder) != whole:
        found.append("the end differs from that of a run that nobody disturbed")
    found += [f"'{path.name}' was left" for path in folder.rglob(".*.part")]
    return found
