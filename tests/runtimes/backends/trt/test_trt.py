"""The backend: what it opens, and what it says where it cannot run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from openings import on

from drun.backends import load
from drun.backends.trt import Runtime, library
from drun.bundle.reading import Bundle
from drun.device import cuda
from drun.errors import BackendUnavailable, ConfigError
from drun.extras import is_installed


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
