"""PyTorch programs: what they compute, the settings that they compute with, and what is not here."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openings import on
from programs import HAS_CUDA, INSTALLED, Made

from drun import backends, cache
from drun.backends import pt2
from drun.console import silent
from drun.errors import BackendUnavailable, ConfigError
from drun.run import parity
from drun.run.opening import choose, open_candidate
from drun.settings import RuntimeOptions

# ---- what it computes ------------------------------------------------------------------------------------


def test_it_is_found_without_importing_torch(python: Callable[..., Any]) -> None:
    code = "import sys; from drun.backends import pt2; print(pt2.Runtime.probe()); assert 'torch' not in sys.modules"
    done = python("-c", code, path=INSTALLED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Probe(available=True, detail='torch {torch.__version__}'")


def test_words_for_it_are_answered_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown backend 'pytorch': use --backend pt2, .*'dexport\[pt2\]'"):
        backends.load("pytorch")


@pytest.mark.parametrize(
    ("device", "arithmetic"),
    [("cpu", "fp32"), ("cpu", "bf16"), *(("cuda", name) for name in ("fp32", "bf16", "tf32") if HAS_CUDA)],
)
def test_the_golden_file_is_met(pristine: Made, device: str, arithmetic: str) -> None:
    with on("pt2", pristine.bundle, arithmetic, device=device) as opened:
        results = parity.check(pristine.bundle, opened, silent)
        where = f"PyTorch on {device.upper()}"
        assert opened.describe() == (where if arithmetic == "fp32" else f"{where} in {arithmetic}")
    assert len(results) == 4
    assert all(result.passed for result in results), results


def test_a_call_gives_float32_and_leaves_its_inputs(pristine: Made, exact_noise: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    x, t, y = rng.standard_normal((3, 3, 8, 8), np.float32), np.full(3, 63, np.float32), np.array([1, 2, 10])
    with on("pt2", pristine.bundle) as opened:
        before = x.copy()
        out = opened.backend.predict(x, t, y)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(out, exact_noise(x.astype(np.float64), 63, y), rtol=1e-5, atol=1e-6)


def test_threads_may_share_it(pristine: Made) -> None:
    rng = np.random.default_rng(0)
    inputs = [(rng.standard_normal((n, 3, 8, 8), np.float32), float(9 * n), np.arange(n)) for n in range(1, 9)] * 5
    with on("pt2", pristine.bundle) as opened:
        alone = [opened.call(*one).copy() for one in inputs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda one: opened.call(*one).copy(), inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# ---- what is not here ------------------------------------------------------------------------------------


@pytest.mark.skipif(HAS_CUDA or torch.backends.mps.is_available(), reason="it has the device")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here(pristine: Made, device: str) -> None:
    with pytest.raises(BackendUnavailable, match=rf"^--device got {device}, PyTorch .* has here: cpu$"):
        on("pt2", pristine.bundle, device=device)


def test_an_arithmetic_that_it_does_not_have(pristine: Made) -> None:
    with pytest.raises(ConfigError, match=r"^--precision got int8, pt2 can compute in fp32, bf16"):
        choose(pristine.bundle, "pt2", "int8")
    tf32 = replace(choose(pristine.bundle, "pt2"), arithmetic="tf32")
    with pytest.raises(ConfigError, match=r"^--precision got tf32, cpu has none: use fp32, or --device cuda$"):
        open_candidate(pristine.bundle, tf32, RuntimeOptions(device="cpu"))


def test_it_opens_no_torch_while_another_backend_computes(made: Made, python: Callable[..., Any]) -> None:
    code = (
        "import sys, drun\n"
        f"bundle = drun.load({str(made.bundle.path)!r})\n"
        "assert {artifact.format for artifact in bundle.manifest.artifacts} == {'onnx', 'pt2'}\n"
        "with bundle.session() as session:\n"
        "    session.sample(1, steps=2)\n"
        "    assert session.opened.name == 'ort'\n"
        "assert 'torch' not in sys.modules"
    )
    done = python("-c", code, path=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_there_is_no_torch(made: Made, python: Callable[..., Any], bare: Path) -> None:
    words = ["check", str(made.bundle.path), "--backend", "pt2"]
    main = f"import sys; sys.argv[1:] = {words}; from drun.cli import main; main()"
    done = python("-c", main, path=[bare, INSTALLED[1]])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, "error: backend 'pt2' is not available: torch is not installed; install it with: pip install 'dexport[pt2]'",
    )  # fmt: skip


def test_a_torch_that_does_not_load(made: Made, python: Callable[..., Any], bare: Path, tmp_path: Path) -> None:
    """As where a shared library is missing."""
    (tmp_path / "stub" / "torch").mkdir(parents=True)
    (tmp_path / "stub" / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so: no such file')")
    words = ["--bundle", str(made.bundle.path), "--backend", "pt2", "--steps", "2"]
    main = f"import sys; sys.argv[1:] = {words}; from drun.cli import main; main()"
    done = python("-c", main, path=[tmp_path / "stub", bare, INSTALLED[1]])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, "error: torch is installed but does not load (libcudart.so: no such file); "
        "install it with: pip install 'dexport[pt2]'",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile's own
def test_compiled_it_computes_the_same(
    pristine: Made, exact_noise: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with on("pt2", pristine.bundle, device="cpu", compile=True) as opened:
        x, y = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32), np.array([1, 10])
        np.testing.assert_allclose(opened.call(x, 63.0, y), exact_noise(x, 63, y), rtol=1e-5, atol=1e-6)
        assert opened.describe() == "compiled PyTorch on CPU"
    assert list((Path(os.environ["DEXPORT_CACHE"]) / pt2.COMPILED).rglob("*.so"))  # of this user alone
    entry = next(entry for entry in cache.entries() if entry.what == "what torch.compile makes")
    assert entry.num_bytes > 10_000


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_its_memory_goes_back_to_the_device(pristine: Made, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs share it. The device here is the processor, under another name."""
    freed = []
    monkeypatch.setattr(getattr(torch, device), "empty_cache", lambda: freed.append(device))
    opened = on("pt2", pristine.bundle, device="cpu", trust=True)
    monkeypatch.setattr(opened.backend, "device", device)
    opened.close()
    opened.close()
    assert freed == [device]
