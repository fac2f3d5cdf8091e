"""All targets are proven for a page; what was skipped or failed is named, and ends nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dbench.core.proofs import TargetProof, prove
from dbench.report import head, proofs
from drun.backends import Probe, ort
from drun.bundle import reading
from drun.console import silent
from drun.errors import BackendUnavailable, NotTrusted


class Fails(ort.Runtime):
    """In bf16 it fails, in int8 it is not trusted."""

    @classmethod
    def arithmetics(cls, artifact: Any, device: str | None = None) -> tuple[str, ...]:
        return ("fp32", "bf16", "int8")

    def __init__(self, bundle: Any, artifact: Any, arithmetic: str, options: Any) -> None:
        if arithmetic == "int8":
            raise NotTrusted("it can execute code, add --trust")
        if arithmetic == "bf16":
            raise BackendUnavailable(f"out of order: {bundle.path}/x")
        super().__init__(bundle, artifact, arithmetic, options)


def test_the_error_of_one_target_does_not_end_the_others(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "Runtime", Fails)
    found = {proof.name: proof for proof in prove(model.open(), silent)}
    good, bad = found["ort onnx-fp32"], found["ort onnx-fp32 in bf16"]
    untrusted = found["ort onnx-fp32 in int8"]
    assert good.checks
    assert all(check.passed for check in good.checks)
    assert (good.error, good.skipped) == ("", "")
    assert (bad.checks, bad.error) == ((), "out of order: tiny/x")
    assert untrusted.error == ""
    assert "can execute code" in untrusted.skipped
    markup = proofs.section(list(found.values()))
    assert "ort onnx-fp32 in bf16 failed: out of order: tiny/x." in markup
    assert "ort onnx-fp32 in int8 was skipped: it can execute code" in markup
    number = head.key_numbers([], list(found.values()))[-1]
    count = sum(len(proof.checks) for proof in found.values())
    assert (number.number, number.doubt) == (f"{count} of {count}", "ort onnx-fp32 in bf16 failed")


def test_a_backend_that_cannot_run_here_is_named_with_its_install_line(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent(ort.Runtime):
        @staticmethod
        def probe() -> Probe:
            return Probe(False, "it is not installed", "pip install it")

    from drun import backends

    load = backends.load
    monkeypatch.setattr(backends, "names", lambda: ["ort", "absent"])
    monkeypatch.setattr(backends, "load", lambda name: Absent if name == "absent" else load(name))
    last = prove(model.open(), silent)[-1]
    assert last == TargetProof("absent", skipped="it is not installed; install it with: pip install it")
    assert "absent was skipped: it is not installed; install it with: pip install it." in proofs.section([last])


def test_where_nothing_can_be_proven_there_is_no_page(model: Any, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(model.bundle, tmp_path / "broken"))
    (broken / "denoiser.fp32.onnx").write_bytes(b"damaged")
    with pytest.raises(BackendUnavailable, match=r"nothing of 'broken' was proven: .*denoiser\.fp32\.onnx"):
        prove(reading.read(broken), silent)
