"""The backend: what it opens, and what it says where it cannot run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from openings import on
from trt_plans import Plan

from dbench.suites.kernel.processor import Processor
from drun import trust
from drun.backends import load
from drun.backends.trt import Runtime, library
from drun.bundle.artifact import FileEntry
from drun.bundle.reading import Bundle
from drun.device import cuda
from drun.errors import BackendUnavailable, BundleError, ConfigError, NotTrusted
from drun.extras import is_installed
from drun.files import sha256


def test_fp32_has_tf32_as_an_arithmetic_of_its_own_until_it_is_built(bundle: Bundle) -> None:
    graph = bundle.manifest.artifacts[0]
    assert Runtime.arithmetics(graph) == ("fp32", "tf32")
    assert Runtime.arithmetics(replace(graph, format="trt")) == ("fp32",)
    assert Runtime.arithmetics(replace(graph, precision="bf16")) == ("bf16",)
    assert Runtime.arithmetics(replace(graph, precision="int8")) == ()


def test_without_tensorrt(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda name: False)
    with pytest.raises(BackendUnavailable, match=r"TensorRT is not installed; install it with: pip install 'dexport\["):
        on("trt", bundle)


@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")
def test_without_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "why_none", lambda: "there is no NVIDIA GPU")
    with pytest.raises(BackendUnavailable, match=r"backend 'trt' is not available: there is no NVIDIA GPU"):
        on("trt", bundle)


def test_other_words_for_it() -> None:
    for word, extra in (("tensorrt", "trt"), ("rtx", "rtx")):
        with pytest.raises(ConfigError, match=rf"unknown backend '{word}': use --backend trt, .*\[{extra}\]"):
            load(word)


@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")
def test_there_is_one_logger_and_it_keeps_errors_until_they_are_asked_for() -> None:
    # In a process of its own, because another test may have logged.
    code = """
from drun.backends.trt import library
trt, logger = library.library(), library.logger()
assert library.logger() is logger
assert library.errors() == "it does not say why"
for severity in (trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.ERROR):
    logger.log(severity, f"{severity.name} of a layer")
assert library.errors() == "ERROR of a layer", library.errors()
assert library.errors() == "it does not say why"
assert library.version().startswith("tensorrt")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Gpu(Processor):
    """A processor in the place of a GPU, with what the backend asks of one."""

    handle = 7
    gpu = SimpleNamespace(name="a GPU")

    def free_bytes(self) -> int:
        """Enough."""
        return 1 << 40


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "why_none", lambda: None)
    monkeypatch.setattr(cuda, "facts", lambda: {"gpu": "a GPU", "driver": "580"})
    monkeypatch.setattr(cuda, "Cuda", Gpu)


def with_plan(bundle: Bundle, content: bytes) -> Bundle:
    """The bundle with a plan that its manifest lists."""
    path = bundle.path / "denoiser.fp32.plan"
    path.write_bytes(content)
    plan = replace(
        bundle.manifest.artifacts[0],
        format="trt",
        files=(FileEntry(path.name, sha256(path)),),
        producers={"tensorrt_rtx": "1.0"},
    )
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=(plan,)))


@pytest.mark.usefixtures("gpu")
@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")
def test_a_plan_is_opened_on_trust_only(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It holds code for a GPU. Nothing reads it before."""
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "state"))
    read: list[Path] = []
    monkeypatch.setattr("drun.backends.trt.opened", lambda path: read.append(path) or Plan())
    planned = with_plan(bundle, bytes(5000))
    with pytest.raises(NotTrusted, match=r"denoiser.fp32.plan' can execute code when it is opened, .* add --trust if"):
        on("trt", planned)
    assert read == []
    trust.remember(planned.manifest.artifacts[0].files[0].sha256, "made here")
    on("trt", planned).close()
    assert len(read) == 1


@pytest.mark.usefixtures("gpu")
@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")
def test_a_plan_of_another_gpu_or_version_is_refused_with_the_reason(bundle: Bundle) -> None:
    message = r"tensorrt_rtx .* refuses '.*denoiser.fp32.plan', which tensorrt_rtx 1.0 built: .*; derive it again"
    with pytest.raises(BundleError, match=message):
        on("trt", with_plan(bundle, bytes(5000)), trust=True)


@pytest.mark.usefixtures("gpu")
@pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")
def test_a_plan_of_another_shape_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drun.backends.trt.opened", lambda path: Plan(side=9))
    with pytest.raises(BundleError, match=r"is not the manifest's network: '(x|out)' got float32"):
        on("trt", with_plan(bundle, bytes(5000)), trust=True)
