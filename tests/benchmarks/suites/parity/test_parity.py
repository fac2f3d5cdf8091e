"""The proofs of a bundle's targets as a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench.suites.parity import Settings, failure, measure
from drun.backends import ort
from drun.bundle.artifact import Tolerance
from drun.console import silent
from drun.errors import BackendUnavailable, BundleError


def test_every_target_has_its_worst_check(model: Any) -> None:
    result = measure(Settings(model.bundle, "cpu"), silent)
    passed, error = (row for row in result.rows if row.name.startswith("ort onnx-fp32,"))
    assert passed.name.endswith("checks passed")
    assert passed.value is True
    assert passed.details["runs_on"] == "ONNX Runtime on CPU"
    assert error.value == max(
        check["relative_l2"] for check in passed.details["checks"] if check["name"] == error.details["at"]
    )
    assert error.doubt is None
    assert result.subject["bundle_sha256"] == model.open().sha256


def test_a_target_that_fails_is_doubtful(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.Runtime, "tolerance", lambda self, usual: Tolerance(1e-12, 1e-12))
    result = measure(Settings(model.bundle, "cpu"), silent)
    passed, error, *_ = result.rows
    assert passed.value is False
    assert error.doubt == "it does not compute what eager PyTorch computes"
    assert failure(result) == "1 of the targets failed: do not use ort onnx-fp32"


def test_a_failure_is_written_and_ends_the_command(
    dbench: Callable[..., Any], model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.Runtime, "tolerance", lambda self, usual: Tolerance(1e-12, 1e-12))
    run = dbench("parity", model.bundle, "--device", "cpu", "--out", tmp_path / "out")
    assert (run.code, len(list((tmp_path / "out").glob("*.json")))) == (3, 1)
    assert run.err.splitlines()[-1] == "error: 1 of the targets failed: do not use ort onnx-fp32"


def test_an_error_of_one_target_is_shown(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_order(self: Any, *_: Any) -> None:
        raise BackendUnavailable("it is out of order")

    monkeypatch.setattr(ort.Runtime, "predict", out_of_order)
    rows = {row.name: row.value for row in measure(Settings(model.bundle, "cpu"), silent).rows}
    assert rows["ort onnx-fp32, failed: it is out of order"] is False
    assert any(name.startswith("trt, not checked: ") and value is None for name, value in rows.items())


def test_a_damaged_file_is_an_error(model: Any, tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(model.bundle, tmp_path / "broken"))
    (broken / "denoiser.fp32.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError):
        measure(Settings(broken, "cpu"), silent)


def test_where_nothing_opens_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from drun.backends.ort import webgpu

    monkeypatch.setattr(webgpu, "why_not", lambda: "there is no GPU")
    with pytest.raises(BackendUnavailable, match="there is no GPU"):
        measure(Settings(model.bundle, "webgpu"), silent)


def test_the_command(dbench: Callable[..., Any], model: Any, tmp_path: Path) -> None:
    run = dbench("parity", model.bundle, "--device", "cpu", "--out", tmp_path / "out")
    assert run.code == 0, run.err
    assert "ort onnx-fp32, relative L2 of the worst check" in run.out
