"""The golden file runs before the first image, once for each device, in a process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import macos
import pytest
from manifest_files import edit

from drun import cache
from drun.backends import ort
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES
from drun.bundle.reading import Bundle
from drun.errors import ParityError
from drun.files import sha256
from drun.run.opening import Opened, choose, open_proven
from drun.run.opening.proven import verdict_of
from drun.settings import RuntimeOptions

on_a_mac = pytest.mark.usefixtures("mac")


def opened(bundle: Bundle, unit: str) -> Opened:
    return open_proven(bundle, choose(bundle, "coreml", device=unit), RuntimeOptions(device=unit))


@on_a_mac
def test_a_unit_that_is_right_is_proven_once(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(bundle, "gpu") as found:
        assert found.backend.options.device == "gpu"
    assert "coreml coreml-fp32-gpu computes the golden file on gpu, once" in capsys.readouterr().out
    with opened(bundle, "gpu"):
        assert "golden file" not in capsys.readouterr().out
    assert "verdict on coreml coreml-fp32-gpu of b" in [entry.what for entry in cache.entries()]


@pytest.mark.slow
@on_a_mac
def test_a_unit_that_is_wrong_is_left_for_the_next_safer_one(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(macos.WRONG, "ALL")
    monkeypatch.setenv(macos.CRASHES, "CPU_AND_GPU")
    with opened(bundle, "all") as found:
        assert found.backend.options.device == "cpu"
    said = capsys.readouterr()
    assert "coreml coreml-fp32-gpu on all does not compute the golden file: " in said.err
    assert "checks on Core ML of macOS 15.5 on all units failed" in said.err
    assert "on gpu does not compute the golden file: its process ended by signal 6" in said.err
    assert "coreml coreml-fp32-gpu on cpu runs instead" in said.err
    monkeypatch.delenv(macos.WRONG)  # its verdict stands, until the system is another one
    candidate = choose(bundle, "coreml")
    assert not verdict_of(bundle, candidate, RuntimeOptions(device="all")).passed


@pytest.mark.slow
@on_a_mac
def test_units_that_are_all_wrong(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(macos.WRONG, "CPU_AND_GPU CPU_ONLY")
    with pytest.raises(ParityError, match=r"fp32-gpu on gpu and .* on cpu failed: use another backend"):
        opened(bundle, "gpu")


@on_a_mac
def test_what_did_not_come_to_numbers_is_no_verdict(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, options = choose(bundle, "coreml"), RuntimeOptions(device="cpu")
    monkeypatch.setenv("PYTHONPATH", "")  # the child is on no Mac
    found = verdict_of(bundle, candidate, options)
    assert not found.passed
    assert "is not available: it runs on macOS alone" in found.reason
    monkeypatch.undo()


def test_another_backend_needs_no_proof(pristine_bundle: Path) -> None:
    bundle = bundles.read(pristine_bundle)
    before = len(cache.entries())
    with open_proven(bundle, choose(bundle, "ort")) as found:
        assert found.name == "ort"
    assert len(cache.entries()) == before


# ---- a safer arithmetic ---------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ONNX Runtime computed on a device of which no proof speaks. The golden file is really computed."""
    monkeypatch.setattr(ort.Runtime, "setting", classmethod(lambda cls, artifact, options: {"gpu": "another"}))


def halved(make_bundle: Callable[..., Path], gain: float) -> Bundle:
    """A bundle with a right graph in fp32, and one in fp16 whose output is `gain` times what it should be."""
    bundle, other = bundles.read(make_bundle("right")), make_bundle("other", gain=gain)
    path = shutil.copy(other / "denoiser.fp32.onnx", bundle.path / "denoiser.fp16.onnx")
    files = [{"path": "denoiser.fp16.onnx", "sha256": sha256(Path(path))}]
    tolerance = {"call": TOLERANCES["fp16"].call, "trajectory": TOLERANCES["fp16"].trajectory}

    def add(manifest: dict[str, Any]) -> None:
        artifact = manifest["artifacts"][0] | {"precision": "fp16", "files": files}
        manifest["artifacts"].append(artifact | {"tolerance": artifact["tolerance"] | tolerance})

    return bundles.read(edit(bundle.path, add))


@pytest.mark.usefixtures("elsewhere")
def test_an_arithmetic_that_is_wrong_is_left_for_the_next_safer_one(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = halved(make_bundle, gain=1.5)
    with open_proven(bundle, choose(bundle, "ort", "fp16")) as found:
        assert found.arithmetic == "fp32"
    said = capsys.readouterr().err
    assert "ort onnx-fp16 on its usual device does not compute the golden file: " in said
    assert "ort onnx-fp32 on its usual device runs instead" in said


@pytest.mark.usefixtures("elsewhere")
def test_an_arithmetic_that_is_right_is_kept(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = halved(make_bundle, gain=1.0)
    with open_proven(bundle, choose(bundle, "ort", "fp16")) as found:
        assert found.arithmetic == "fp16"
    assert "instead" not in capsys.readouterr().err


@pytest.mark.usefixtures("elsewhere")
def test_nothing_is_safer_than_fp32(make_bundle: Callable[..., Path]) -> None:
    bundle = bundles.read(make_bundle("wrong", gain=1.5))
    with pytest.raises(ParityError, match="ort onnx-fp32 on its usual device failed: use another backend"):
        open_proven(bundle, choose(bundle, "ort"))
