"""Measurements of processes: memory that is theirs, errors that reach the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.core import fresh
from drun.errors import UserError


@pytest.fixture
def job(model: Any) -> fresh.Job:
    return fresh.Job(model.bundle, "ort", num_threads=1, batch=2, num_images=2, num_steps=2)


def test_a_peak_is_the_processs_own() -> None:
    """Not that of this process, which holds PyTorch: a forked one starts with its parent's."""
    small, large = fresh.peak_bytes(["-c", "pass"]), fresh.peak_bytes(["-c", "bytearray(b'1') * 50_000_000"])
    if small is None or large is None:
        pytest.skip("this system does not say")
    assert small < 40e6
    assert large - small == pytest.approx(50e6, abs=5e6)


def test_cold_start_is_seconds(job: fresh.Job) -> None:
    assert 0.05 < fresh.cold_start_s(job) < 60


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
def test_a_process_that_fails_is_an_error(measure: Callable[[fresh.Job], object], tmp_path: Path) -> None:
    job = fresh.Job(tmp_path, "ort", num_threads=1, batch=1, num_images=1, num_steps=2)
    with pytest.raises(UserError, match=r"ended with code 1: .*is not a bundle"):
        measure(job)
