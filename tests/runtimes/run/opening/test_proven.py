"""The golden file runs before the first image, once for each device, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import macos
import pytest

from drun import cache
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.errors import ParityError
from drun.run.opening import Opened, choose, open_proven
from drun.run.opening.proven import verdict_of
from drun.settings import RuntimeOptions

pytestmark = pytest.mark.usefixtures("mac")


def opened(bundle: Bundle, unit: str) -> Opened:
    return open_proven(bundle, choose(bundle, "coreml", device=unit), RuntimeOptions(device=unit))


def test_a_unit_that_is_right_is_proven_once(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(bundle, "gpu") as found:
        assert found.backend.options.device == "gpu"
    assert "coreml coreml-fp32-gpu computes the golden file on gpu, once" in capsys.readouterr().out
    with opened(bundle, "gpu"):
        assert "golden file" not in capsys.readouterr().out
    assert "verdict on coreml coreml-fp32-gpu of b" in [entry.what for entry in cache.entries()]


@pytest.mark.slow
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
def test_units_that_are_all_wrong(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(macos.WRONG, "CPU_AND_GPU CPU_ONLY")
    with pytest.raises(ParityError, match=r"fp32-gpu on gpu and .* on cpu failed: use another backend"):
        opened(bundle, "gpu")


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
