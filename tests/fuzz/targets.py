"""The readers of what OpenVINO and PyTorch open: graphs, a compiled graph of the cache, programs, and who made them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

from base import Bytes, Reader, helpers, listed_anew
from mutate import HOSTILE, change_value, damage, other_program

from drun import trust
from drun.bundle import reading as bundles
from drun.bundle.hashes import seal
from drun.commands.info import info
from drun.console import silent
from drun.errors import NotTrusted, UserError
from drun.library import load


def write_with_ir(folder: Path) -> Path:
    """A bundle of an ONNX graph and its IR."""
    from dexport.writer.add import add_artifact
    from dexport.writer.staging import Order

    helpers().write_bundle(folder, conditional=True)
    add_artifact(folder, Order("openvino"), silent)
    return folder


def images_of(bundle: Path, backend: str, **options: Any) -> bytes:
    """What three steps draw, as bytes."""
    with load(bundle).session(backend, **options) as session:
        return bytes(session.sample(2, steps=3, output="float").tobytes())


class Ir(Reader):
    """An IR of other bytes, which the manifest says are right."""

    def make(self, folder: Path) -> None:
        write_with_ir(folder / "b")

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / f"denoiser.fp32{draw.choice(['.xml', '.xml', '.bin'])}"
        path.write_bytes(damage(path.read_bytes(), draw))
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        images_of(folder / "b", "openvino", artifact="openvino-fp32")


class Packages(Ir):
    """A Core ML package of other bytes, which the manifest says are right."""

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)
        from coreml_bundles import add_package  # a helper of the tests, which are found from here on

        add_package(folder / "b", (1,))

    def attack(self, folder: Path, draw: random.Random) -> None:
        name = draw.choice(["Manifest.json", "model.mlmodel", "model.mlmodel", "model.mlmodel", "weight.bin"])
        (path,) = (folder / "b").rglob(name)
        path.write_bytes(damage(path.read_bytes(), draw))
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        images_of(folder / "b", "mil")


class Programs(Packages):
    """A package of many operations, of which messages are others, or bytes."""

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)
        from coreml_bundles import add_package, network

        add_package(folder / "b", (1,), denoiser=network)

    def attack(self, folder: Path, draw: random.Random) -> None:
        if draw.random() < 0.2:
            super().attack(folder, draw)
            return
        (path,) = (folder / "b").rglob("model.mlmodel")
        path.write_bytes(other_program(path.read_bytes(), draw))
        listed_anew(folder / "b")


class Graphs(Ir):
    """An ONNX graph of other bytes, opened by OpenVINO and made into IR."""

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "denoiser.fp32.onnx"
        path.write_bytes(damage(path.read_bytes(), draw))
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        from dexport.writer.add import add_artifact
        from dexport.writer.staging import Order

        before = (folder / "b" / "manifest.json").read_bytes()
        try:
            add_artifact(folder / "b", Order("openvino"), silent)
        except UserError:
            assert (folder / "b" / "manifest.json").read_bytes() == before, "what was there is lost"
        assert [path.name for path in folder.iterdir()] == ["b"], "something is left"
        images_of(folder / "b", "openvino", artifact="onnx-fp32")


class Identity(Ir):
    """Other values in the artifacts of a manifest, which is sealed as if they were meant so."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "manifest.json"
        fields = json.loads(path.read_text())
        del fields["sha256"]
        artifact = draw.choice(fields["artifacts"])
        if draw.random() < 0.5:
            artifact.update(change_value(artifact, draw))
        else:
            name = draw.choice(["variant", "root", "derived_from", "format", "precision", "batch", "files", "parity"])
            artifact[name] = self._other(name, artifact, draw)
        path.write_text(seal(fields))

    def _other(self, name: str, artifact: dict[str, Any], draw: random.Random) -> Any:
        files = artifact["files"]
        return draw.choice({
            "variant": [*HOSTILE, "gpu", "a/b", "-"],
            "root": [*HOSTILE, ".", "..", "/", "a", "denoiser.fp32.xml"],
            "derived_from": [*HOSTILE, "0" * 64, "F" * 64, files[0]["sha256"]],
            "format": [*HOSTILE, "onnx", "openvino", "pt2", "trt"],
            "precision": [*HOSTILE, "fp16", "bf16", "int8", "tf32"],
            "batch": [*HOSTILE, [1, 65536], [4096, 65536], [8, 8], [1, 2**40], [2, 1]],
            "files": [*HOSTILE, files[::-1], files[:1], files * 2, [], [files[0] | {"path": draw.choice(HOSTILE)}],
                      [entry | {"path": f"./{entry['path']}"} for entry in files],
                      [entry | {"path": f"x/../{entry['path']}"} for entry in files]],
            "parity": [*HOSTILE, (artifact["parity"] or {}) | {"backend": draw.choice(HOSTILE)}],
        }[name])  # fmt: skip

    def read(self, folder: Path) -> Any:
        from dexport.writer.add import add_artifact
        from dexport.writer.staging import Order

        bundle = bundles.read(folder / "b")
        with contextlib.redirect_stdout(io.StringIO()):
            info(folder / "b")
        with contextlib.suppress(UserError):
            images_of(folder / "b", "openvino")
        bundle.check_files()
        add_artifact(folder / "b", Order("openvino"), silent)
        bundles.read(folder / "b").check_files()
        assert [path.name for path in folder.iterdir()] == ["b"], "something is left"


class TwoGraphs(Ir):
    """Other bytes of the two graphs of a split artifact, or other values in what the manifest says of the first."""

    def make(self, folder: Path) -> None:
        path = helpers().write_bundle(folder / "b", conditional=True)
        from split_bundles import add_split

        add_split(path)

    def attack(self, folder: Path, draw: random.Random) -> None:
        if draw.random() < 0.3:
            path = folder / "b" / f"{draw.choice(['conditioning', 'denoiser'])}.fp32-split.onnx"
            path.write_bytes(damage(path.read_bytes(), draw))
            return listed_anew(folder / "b")
        path = folder / "b" / "manifest.json"
        fields = json.loads(path.read_text())
        del fields["sha256"]
        artifact = fields["artifacts"][-1]
        name = draw.choice(["files", "width", "batch", "root", "all"])
        if name == "all":
            artifact["conditioning"] = draw.choice(HOSTILE)
        else:
            artifact["conditioning"][name] = self._other(name, [entry["path"] for entry in artifact["files"]], draw)
        path.write_text(seal(fields))

    def _other(self, name: str, paths: list[str], draw: random.Random) -> Any:
        return draw.choice({
            "files": [*HOSTILE, paths, paths[:1], paths[::-1], paths * 2, [draw.choice(HOSTILE)], ["manifest.json"]],
            "width": [*HOSTILE, 1, 3, 1 << 24, (1 << 24) + 1],
            "batch": [*HOSTILE, [1, 1], [1, 65536], [4096, 65536], [8, 8], [1, 2**40], [2, 1]],
            "root": [*HOSTILE, ".", "..", "/", "a", paths[0]],
        }[name])  # fmt: skip

    def read(self, folder: Path) -> Any:
        for backend in ("ort", "openvino"):
            images_of(folder / "b", backend, artifact="onnx-fp32-split")
        with contextlib.redirect_stdout(io.StringIO()):
            info(folder / "b")


class Compiled(Ir):
    """A compiled graph in the cache of other bytes, or with another record: it is never given to OpenVINO."""

    def make(self, folder: Path) -> None:
        super().make(folder)
        self.read(folder)

    def attack(self, folder: Path, draw: random.Random) -> None:
        files = [path for path in (folder / "cache").rglob("*") if path.is_file()]
        for file in sorted(files) if draw.random() < 0.3 else [draw.choice(sorted(files))]:
            file.write_bytes(damage(file.read_bytes(), draw))

    def read(self, folder: Path) -> Any:
        with variable("DEXPORT_CACHE", folder / "cache"):
            return images_of(folder / "b", "openvino")


class Record(Bytes):
    """The user's record of exports: it names other files, or cannot be read."""

    def make(self, folder: Path) -> None:
        with variable("DEXPORT_STATE", folder / "state"):
            for digit in "0a":
                trust.remember(digit * 64, "a program")

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "state" / trust.RECORD
        if draw.random() < 0.5:
            super().attack(folder, draw)
        else:
            path.write_text(json.dumps(change_value(json.loads(path.read_text()), draw)))

    def read(self, folder: Path) -> Any:
        with variable("DEXPORT_STATE", folder / "state"):
            assert not trust.is_trusted("b" * 64)
            trust.remember("c" * 64, "another program")
            assert trust.is_trusted("c" * 64)


class Untrusted(Bytes):
    """A program that this user has not exported: whatever its bytes, it is not opened."""

    def make(self, folder: Path) -> None:
        write_with_program(folder)

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "denoiser.fp32.pt2"
        path.write_bytes(damage(path.read_bytes(), draw))
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        try:
            with variable("DEXPORT_STATE", folder / "state"):
                images_of(folder / "b", "pt2")
        except NotTrusted:
            return "refused"
        return "opened"


class Trusted(Untrusted):
    """The same, of somebody whom the user trusts."""

    def read(self, folder: Path) -> Any:
        images_of(folder / "b", "pt2", trust=True)


def write_with_program(folder: Path) -> None:
    """A bundle of an ONNX graph and a program, without the record of its export."""
    from torch import nn

    from dexport.targets import Part
    from dexport.targets.pt2 import export
    from drun.bundle.artifact import TOLERANCES

    class Halved(nn.Module):
        def forward(self, x: Any, t: Any, y: Any) -> Any:
            return 0.5 * x + 0 * (t + y).reshape(-1, 1, 1, 1)

    bundle = bundles.read(helpers().write_bundle(folder / "b", conditional=True))
    network, io_ = Halved().eval(), bundle.manifest.artifacts[0].io
    with variable("DEXPORT_STATE", folder / "made"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        artifact = export(Part("denoiser.fp32", network, network, "fp32", io_, (1, 8), TOLERANCES["fp32"]), bundle.path)
    from dataclasses import replace

    manifest = replace(bundle.manifest, artifacts=(*bundle.manifest.artifacts, artifact))
    (bundle.path / "manifest.json").write_text(manifest.to_json())
    shutil.rmtree(folder / "made")


@contextlib.contextmanager
def variable(name: str, folder: Path) -> Any:
    """A variable of the environment that names a folder; put back at the end."""
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
