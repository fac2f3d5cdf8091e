"""The fastest that passes its proof is found, noted, and taken by drun --backend auto."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbench.core.timing import Timing
from dbench.suites.pick import Settings, measure
from dbench.suites.pick.measuring import Contender, Lap, contenders, finalists
from drun.backends import Backend, ort
from drun.bundle.artifact import Tolerance
from drun.console import silent
from drun.errors import BackendUnavailable
from drun.run.opening import Candidate
from drun.run.opening.picks import pick_of


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "state"))


def settings_of(bundle: Path, **changes: Any) -> Settings:
    return replace(Settings(bundle, steps=2, repeats=2, batch=2), **changes)


def test_the_winner_is_noted_and_taken(
    model: Any, in_process: Callable[[str], Callable[..., Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = model.open()
    result = measure(settings_of(model.bundle), silent)
    pick = pick_of(bundle)
    assert pick is not None
    name = f"{pick.backend} {pick.artifact}"
    (best,) = [row for row in result.rows if row.headline]
    assert best.name.startswith(name)
    final = [row.value for row in result.rows if row.value is not None and not row.name.endswith("timed alone")]
    assert best.value == min(final) == pytest.approx(pick.ms)
    assert {row.name.split(" ")[0] for row in result.rows} >= {"ort", "openvino"}
    assert "is the fastest here" in capsys.readouterr().out
    drun = in_process("drun")
    run = drun("--bundle", model.bundle, "--backend", "auto", "--steps", 2, "-n", 1, "--out", "out", "--json")
    assert run.code == 0, run.err
    document = json.loads(run.out)
    assert (document["backend"], document["artifact"], document["precision"]) == (
        pick.backend, pick.artifact, pick.arithmetic,
    )  # fmt: skip


def test_only_what_is_asked_for_may_win(model: Any) -> None:
    measure(settings_of(model.bundle, precisions=("fp32",)), silent)
    pick = pick_of(model.open())
    assert pick is not None
    assert pick.arithmetic == "fp32"
    found = contenders(model.open(), settings_of(model.bundle, precisions=("fp32",)))
    assert {one.candidate.arithmetic for one in found} == {"fp32"}


def test_what_fails_its_proof_does_not_win(
    model: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort.Runtime, "tolerance", lambda self, usual: Tolerance(1e-12, 1e-12))
    measure(settings_of(model.bundle, precisions=("fp32",)), silent)
    assert "ort onnx-fp32 on cpu is left out: " in capsys.readouterr().err
    pick = pick_of(model.open())
    assert pick is not None
    assert pick.backend != "ort"
    monkeypatch.setattr(Backend, "tolerance", lambda self, usual: Tolerance(1e-12, 1e-12))
    with pytest.raises(BackendUnavailable, match=r"nothing here computes '.*' and passes its proof: see drun check"):
        measure(settings_of(model.bundle, precisions=("fp32",)), silent)


def test_references_and_devices_that_are_not_here_are_left_out(model: Any) -> None:
    found = list(contenders(model.open(), settings_of(model.bundle)))
    assert not {one.candidate.backend for one in found} & {"mil", "null"}
    assert {one.device for one in found if one.candidate.backend == "ort"} <= {"cpu", "cuda", "webgpu"}


def test_the_final_is_among_the_close_ones() -> None:
    ms = {"a": 2.0, "b": 1.0, "c": 1.1, "d": 1.2, "e": 1.25}
    timed = [Lap(Contender(Candidate(name, None, "fp32"), "cpu"), Timing((value,))) for name, value in ms.items()]
    assert [one.candidate.backend for one in finalists(timed)] == ["b", "c", "d"]
    assert [one.candidate.backend for one in finalists(timed[:2])] == ["b"]
