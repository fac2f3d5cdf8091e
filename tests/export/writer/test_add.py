"""Artifacts that are made of a bundle alone: proven, without PyTorch, beside other processes, and after kills."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from exporting import FULL_CHECKS, content, ids

from dexport import targets
from dexport.writer.add import add_artifact
from dexport.writer.staging import Order
from drun import backends
from drun.backends import Probe
from drun.bundle import reading as bundles
from drun.bundle.artifact import Tolerance
from drun.console import silent
from drun.errors import BundleError, ConfigError, ExportError, ParityError
from drun.run.opening import Candidate, choose, open_candidate

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def bundle(onnx_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(onnx_bundle, tmp_path / "bundle")


@pytest.fixture
def start(plugins: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(*arguments)` runs a command with the plugins in another process; `gate` is a file that it waits for."""
    begun = []

    def call(*arguments: object, gate: Path | None = None) -> "subprocess.Popen[str]":
        environment = os.environ | ({"MIRROR_GATE": str(gate)} if gate else {})
        process = subprocess.Popen(
            [sys.executable, plugins, *map(str, arguments)], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield call
    for process in begun:
        process.kill()
        process.communicate()


# ---- what is made ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plugins")
def test_a_folder_is_an_artifact(bundle: Path) -> None:
    written = add_artifact(bundle, Order("mirror"), silent)
    read = bundles.read(bundle)
    onnx, mirror = read.manifest.artifacts
    assert (mirror.id, mirror.root, mirror.batch) == ("mirror-fp32", "denoiser.fp32.mirror", onnx.batch)
    assert mirror.derived_from == onnx.files[0].sha256
    files = ["denoiser.fp32.mirror/data/graph.onnx", "denoiser.fp32.mirror/about.txt"]
    assert [entry.path for entry in mirror.files] == files
    assert read.unlisted() == []
    read.check_files()
    assert mirror.parity is not None
    assert (mirror.parity["backend"], mirror.parity["checks"]) == ("ONNX Runtime on CPU", FULL_CHECKS)
    assert (written.made, written.held, written.bundle.path) == ("mirror-fp32", ["onnx-fp32"], bundle)
    with open_candidate(read, choose(read, "mirror")) as opened:
        assert opened.artifact == mirror
    (bundle / files[1]).write_text("something else")
    with pytest.raises(BundleError, match=r"about.txt' is damaged"):
        read.check_files()


@pytest.mark.usefixtures("plugins")
def test_a_folder_is_kept_and_replaced(bundle: Path) -> None:
    add_artifact(bundle, Order("mirror"), silent)
    before = content(bundle)
    written = add_artifact(bundle, Order("mirror"), silent)
    assert (written.made, written.held) == ("mirror-fp32", ["onnx-fp32", "mirror-fp32"])
    assert content(bundle) == before


@pytest.mark.usefixtures("plugins")
def test_sizes_within_the_sources(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"--batch got 1\.\.8, onnx-fp32 takes 2\.\.2: choose sizes in it"):
        add_artifact(bundle, Order("mirror", batch=(1, 8)), silent)
    add_artifact(bundle, Order("mirror", batch=(2, 2)), silent)
    assert bundles.read(bundle).manifest.artifacts[1].batch == (2, 2)


@pytest.mark.usefixtures("plugins")
def test_a_bundle_without_the_source_names_the_command(bundle: Path) -> None:
    held = bundles.read(bundle).manifest
    other = replace(held, artifacts=(replace(held.artifacts[0], format="other"),))
    (bundle / "manifest.json").write_text(other.to_json())
    command = f"dexport onnx PATH/TO/{held.model.checkpoint['file']} -o {bundle}"
    with pytest.raises(BundleError, match=f"has no onnx artifact in fp32, of which mirror is made: type {command}"):
        add_artifact(bundle, Order("mirror"), silent)


@pytest.mark.usefixtures("plugins")
def test_a_failed_proof_changes_nothing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, mirror = content(bundle), targets.load("mirror")
    derive = mirror.derive
    monkeypatch.setattr(
        mirror, "derive", lambda *given: replace(derive(*given), tolerance=Tolerance(call=1e-9, trajectory=1e-9))
    )
    with pytest.raises(ParityError, match=r"mirror-fp32: .*nothing was written"):
        add_artifact(bundle, Order("mirror"), silent)
    assert content(bundle) == before


@pytest.mark.usefixtures("plugins")
def test_a_target_that_cannot_be_proven_here_says_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.load("mirror"), "probe", staticmethod(lambda: Probe(False, "gone", "pip")))
    written = add_artifact(bundle, Order("mirror"), silent)
    assert written.unproven == {"mirror-fp32": "gone; install it with: pip"}
    assert [artifact.parity is None for artifact in bundles.read(bundle).manifest.artifacts] == [False, True]


@pytest.mark.usefixtures("plugins")
def test_two_artifacts_are_never_written_to_one_file(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, mirror = content(bundle), targets.load("mirror")

    def careless(source: targets.Source, folder: Path) -> object:
        path = shutil.copyfile(source.path, folder / source.path.name)
        files = tuple(replace(entry, path=path.name) for entry in source.artifact.files)
        return replace(source.artifact, format="mirror", files=files)

    monkeypatch.setattr(mirror, "derive", careless)
    with pytest.raises(ExportError, match=r"mirror-fp32 and another artifact .* to 'denoiser.fp32.onnx'"):
        add_artifact(bundle, Order("mirror"), silent)
    assert content(bundle) == before


# ---- other processes ------------------------------------------------------------------------------------


def test_neither_pytorch_nor_the_checkpoint_is_needed(bundle: Path, start: Start) -> None:
    process = start("--without", "torch", "--without", "dtrain", "dexport", "mirror", bundle)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "added mirror-fp32\nkept onnx-fp32\n" in out
    assert f"sample from it: drun --backend mirror --steps 250 --bundle {bundle}" in out
    assert ids(bundle) == ["onnx-fp32", "mirror-fp32"]


def test_two_processes_add_to_one_bundle(bundle: Path, start: Start, tmp_path: Path) -> None:
    """The first is held in the middle until the second waits for it; readers see the old bundle, then the new one."""
    gate = tmp_path / "gate"
    gate.touch()
    held, before = bundles.read(bundle), content(bundle)
    first = start("dexport", "mirror", bundle, gate=gate)
    assert first.stdout.readline() == "at the gate\n"
    second = start("dexport", "mirror", bundle, "--precision", "fp16")
    assert second.stdout.readline() == f"another export writes to '{bundle}': waiting for it\n"
    assert content(bundle) == before
    bundles.read(bundle).check_files()
    gate.unlink()
    for process in (first, second):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert ids(bundle) == ["onnx-fp32", "mirror-fp32", "mirror-fp16"]
    bundles.read(bundle).check_files()
    # Who read the manifest before still opens what it lists.
    with open_candidate(held, Candidate("ort", held.manifest.artifacts[0], "fp32")) as opened:
        assert opened.artifact is not None
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_kill_leaves_the_old_bundle_whole(bundle: Path, start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    before = content(bundle)
    process = start("dexport", "mirror", bundle, gate=gate)
    assert process.stdout.readline() == "at the gate\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert content(bundle) == before
    bundles.read(bundle).check_files()
    gate.unlink()
    done = start("dexport", "mirror", bundle)
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert ids(bundle) == ["onnx-fp32", "mirror-fp32"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # nor is anything left of the killed process
