"""The PTX that is shipped, and what the installed compiler makes of its source."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from drun.device import ptx
from drun.errors import BackendUnavailable


def has_nvrtc() -> bool:
    try:
        from cuda.bindings import nvrtc

        return not int(nvrtc.nvrtcVersion()[0])
    except (ImportError, RuntimeError):
        return False


needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="needs NVRTC")


def check(code: str) -> None:
    """That it holds both kernels, for the architecture."""
    assert f".target {ptx.ARCHITECTURE.replace('compute', 'sm')}\n" in code
    for kernel in ("update", "advance"):
        assert code.count(f".visible .entry {kernel}(") == 1


def test_the_shipped_ptx_is_of_the_source() -> None:
    """Otherwise it must be compiled anew: see drun/device/ptx.py."""
    code = ptx.SHIPPED.read_text()
    assert code.startswith(ptx.header())
    check(code)


@needs_nvrtc
def test_nvrtc_compiles_the_kernel_without_a_gpu() -> None:
    check(ptx.compiled())


@needs_nvrtc
def test_an_error_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "step.cu"
    source.write_text("__device__ int f() { return missing; }")
    monkeypatch.setattr(ptx, "SOURCE", source)
    with pytest.raises(BackendUnavailable, match=r"step\.cu does not compile: step\.cu\(1\): error: .*is undefined"):
        ptx.compiled()


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="needs ptxas")
@pytest.mark.parametrize("capability", ["75", "90"])
def test_gpus_can_be_compiled_for(tmp_path: Path, capability: str) -> None:
    words = ["ptxas", f"-arch=sm_{capability}", str(ptx.SHIPPED), "-o", str(tmp_path / "step.cubin")]
    subprocess.run(words, check=True)
