"""What `drun check --all` does not count as a failed proof, and options that a backend has no use for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drun import backends
from drun.backends import null
from drun.errors import DeviceUnavailable


def test_a_device_that_no_backend_has(make_bundle: Callable[..., Path], drun: Callable[..., Any]) -> None:
    result = drun("check", make_bundle(), "--all", "--device", "tpu")
    assert result.code == 1
    assert "error: --device or --unit got 'tpu', expected one of cpu, cuda, webgpu, mps, gpu, ane, all" in result.err


def test_a_device_that_is_not_here_is_skipped(
    make_bundle: Callable[..., Path], drun: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(null.Runtime):
        formats = ("onnx",)

        def __init__(self, *arguments: Any) -> None:
            raise DeviceUnavailable("--device got cuda, this has cpu: leave it out")

    monkeypatch.setattr(null, "Runtime", Elsewhere)
    result = drun("check", make_bundle(), "--all", "--json")
    document = json.loads(result.out)
    assert result.code == 0
    assert document["skipped"]["null onnx-fp32"] == "--device got cuda, this has cpu: leave it out"
    assert "ort onnx-fp32" in [target["name"] for target in document["targets"]]


@pytest.mark.parametrize("option", [("--precision", "bf16"), ("--artifact", "onnx-fp32")])
def test_null_takes_no_artifact_and_no_other_arithmetic(
    make_bundle: Callable[..., Path], drun: Callable[..., Any], tmp_path: Path, option: tuple[str, str]
) -> None:
    run = ("--bundle", make_bundle(), "--backend", "null", "--steps", 2, "-n", 1, "--out", tmp_path / "out")
    result = drun(*run, *option)
    assert result.code == 1
    assert f"{option[0]} got '{option[1]}', backend 'null' opens no artifact and computes in fp32" in result.err
    assert drun(*run, "--precision", "fp32").code == 0
    assert "null" in backends.names()
