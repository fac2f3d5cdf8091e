"""`drun check`: parity by numbers, exit code 3, and every damaged or unlisted file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from manifest_files import edit
from outcomes import fails, refused

Drun = Callable[..., Any]


MakeBundle = Callable[..., Path]


@pytest.mark.parametrize("batch", [(1, 8), (2, 2)])
def test_check(make_bundle: MakeBundle, drun: Drun, batch: tuple[int, int]) -> None:
    result = drun("check", make_bundle(conditional=True, batch=batch))
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "tiny: every sha256 is right"
    assert " ".join(lines[1].split()) == "check relative L2 allowed max abs p99 abs mean abs PSNR dB"
    assert len(lines) == 7
    assert lines[-1] == "parity with eager PyTorch holds on ONNX Runtime on CPU: 4 of 4 checks"


@pytest.mark.parametrize("gain", [1.01, float("nan")])
def test_failed_parity(make_bundle: MakeBundle, drun: Drun, gain: float) -> None:
    result = drun("check", make_bundle(gain=gain))
    assert result.code == 3
    assert result.out.count("FAILED") == 4
    error = result.err.splitlines()[-1]
    assert error.startswith("error: 4 of 4 checks on ONNX Runtime on CPU failed, the worst at relative L2 ")
    assert error.endswith(": do not use this target")
    assert ("nan" in error) == (gain != gain)


@pytest.mark.parametrize("file", ["denoiser.fp32.onnx", "golden.npz"])
def test_check_finds_a_flipped_byte(make_bundle: MakeBundle, drun: Drun, file: str) -> None:
    path = make_bundle()
    data = bytearray((path / file).read_bytes())
    data[-3] ^= 4
    (path / file).write_bytes(data)
    refused(drun("check", path), f"{file}' is damaged: sha256 got", "expected")


def test_check_names_what_the_manifest_does_not_list(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    (path / "evil\x1b[2J.data").write_text("")
    result = drun("check", path)
    assert result.code == 0
    assert f"warning: the manifest of '{path}' does not list 'evil\\x1b[2J.data': nothing opens it" in result.err


def test_check_reads_every_artifact(make_bundle: MakeBundle, drun: Drun) -> None:
    """Also those of other backends."""
    path = make_bundle()
    other = {"format": "coreml", "files": [{"path": "other.bin", "sha256": "0" * 64}]}
    edit(path, lambda manifest: manifest["artifacts"].append(manifest["artifacts"][0] | other))
    (path / "other.bin").write_bytes(b"x")
    refused(drun("check", path), "other.bin' is damaged")


def test_nothing_to_check(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    fails(
        drun("check", path, "--backend", "null"),
        "backend 'null' opens no artifact of a bundle, so there is nothing to check",
    )
