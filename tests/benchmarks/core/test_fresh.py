"""Measurements of processes: memory that is theirs, errors that reach the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dbench.core import fresh
from drun import cli
from drun.errors import UserError
from drun.run.opening import Candidate, choose
from drun.settings import RuntimeOptions

pytestmark = pytest.mark.slow  # processes are started, and weighed


@pytest.fixture
def job(model: Any) -> fresh.Job:
    return fresh.Job(model.bundle, choose(model.open(), "ort"), RuntimeOptions(1), batch=2, num_images=2, num_steps=2)


def test_a_peak_is_the_processs_own() -> None:
    """Not that of this process, which holds PyTorch: a forked one starts with its parent's."""
    small, large = fresh.peak_bytes(["-c", "pass"]), fresh.peak_bytes(["-c", "bytearray(b'1') * 50_000_000"])
    if small is None or large is None:
        pytest.skip("this system does not say")
    assert small < 40e6
    assert large - small == pytest.approx(50e6, abs=5e6)


def test_cold_start_is_seconds(job: fresh.Job) -> None:
    assert 0.05 < fresh.cold_start_s(job) < 60


def test_a_latent_counts_where_no_decoder_makes_images(job: fresh.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself ends later."""
    program = (
        "import os, sys, time; os.chdir(sys.argv[sys.argv.index('--out') + 1]); "
        "os.mkdir('raw'); open('raw/000000.npz', 'w').close(); time.sleep(3)"
    )
    monkeypatch.setattr(fresh, "DRUN", ("-c", program))
    assert fresh.cold_start_s(job) < 3


def test_a_process_without_an_image_is_an_error(job: fresh.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "DRUN", ("-c", "pass"))
    with pytest.raises(UserError, match=r"^drun ended without an image$"):
        fresh.cold_start_s(job)


def test_cold_starts_take_turns(job: fresh.Job) -> None:
    null = replace(job, candidate=Candidate("null", None, "fp32"))
    said: list[tuple[int, int]] = []
    seconds = fresh.cold_starts_s([job, null], 2, lambda _, done, total: said.append((done, total)))
    assert {name: len(found) for name, found in seconds.items()} == {"ort onnx-fp32": 2, "null": 2}
    assert all(0.05 < found < 60 for each in seconds.values() for found in each)
    assert said == [(1, 2), (2, 2)]


def test_a_command_names_the_whole_candidate(job: fresh.Job, tmp_path: Path) -> None:
    """As `drun` reads it, with an arithmetic other than the artifact's and all of the runtime's options."""
    artifact = job.candidate.artifact
    other = replace(
        job, candidate=Candidate("ort", artifact, "bf16"), options=RuntimeOptions(3, "cuda", trust=True), batch=4
    )
    command = get_command(cli.app)
    context = command.make_context("drun", [*other.arguments(tmp_path)], resilient_parsing=False)
    given = context.params
    shown = [given[key] for key in ("backend", "artifact", "precision", "threads", "device", "trust", "batch", "steps")]
    assert shown == ["ort", "onnx-fp32", "bf16", 3, "cuda", True, 4, 2]
    alone = replace(job, candidate=Candidate("null", None, "fp32")).arguments(tmp_path)
    assert not {"--artifact", "--precision", "--device", "--trust"} & {*alone}


def test_drun_imports_no_torch(job: fresh.Job) -> None:
    assert not fresh.imports_module(job, "torch")
    assert fresh.imports_module(job, "numpy")


def test_opening_and_calling_takes_memory(job: fresh.Job) -> None:
    imported, called = fresh.session_peak_bytes(job, 0), fresh.session_peak_bytes(job, 3)
    if imported is None or called is None:
        pytest.skip("this system does not say")
    assert called > imported > 1e7


def session_peak_bytes(job: fresh.Job) -> int | None:
    return fresh.session_peak_bytes(job, 1)


@pytest.mark.parametrize("measure", [fresh.cold_start_s, fresh.drun_peak_bytes, session_peak_bytes])
def test_a_process_that_fails_is_an_error(
    measure: Callable[[fresh.Job], object], job: fresh.Job, tmp_path: Path
) -> None:
    job = replace(job, bundle=tmp_path)
    with pytest.raises(UserError, match=r"ended with code 1: .*is not a bundle"):
        measure(job)
