"""ONNX Runtime on CUDA: what it can compute, and what is said where it is not there. Its engine runs in test_engine."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime
import pytest
from openings import on

from drun.backends import ort
from drun.backends.ort.session import check_provider, open_session, settings_of
from drun.bundle.reading import Bundle
from drun.errors import DeviceUnavailable
from drun.settings import RuntimeOptions


@pytest.fixture
def has_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if onnxruntime-gpu were installed, and there were a GPU."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("drun.device.cuda.why_none", lambda: None)


@pytest.mark.usefixtures("has_provider")
def test_numbers_depend_on_the_gpu_and_its_driver(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor is what the export's proof speaks of."""
    monkeypatch.setattr("drun.device.cuda.facts", lambda: {"gpu": "one", "driver": "580"})
    artifact = bundle.manifest.artifacts[0]
    on_gpu = {"device": "cuda", "gpu": "one", "driver": "580", "onnxruntime": onnxruntime.__version__}
    assert ort.Runtime.setting(artifact, RuntimeOptions(device="cuda")) == on_gpu
    assert ort.Runtime.setting(artifact, RuntimeOptions()) == on_gpu
    assert ort.Runtime.setting(artifact, RuntimeOptions(device="cpu")) is None


@pytest.mark.usefixtures("has_provider")
def test_tf32_and_bf16_are_arithmetics_of_cuda(bundle: Bundle) -> None:
    fp32 = bundle.manifest.artifacts[0]
    for device in (None, "cuda"):
        assert ort.Runtime.arithmetics(fp32, device) == ("fp32", "tf32")
        for precision in ("fp16", "bf16"):
            assert ort.Runtime.arithmetics(replace(fp32, precision=precision), device) == (precision,)
    assert ort.Runtime.arithmetics(fp32, "cpu") == ("fp32",)
    assert ort.Runtime.arithmetics(replace(fp32, precision="bf16"), "cpu") == ()


def test_without_cuda_the_usual_device_is_the_processor(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the provider there or not."""
    for providers in (["CPUExecutionProvider"], ["CUDAExecutionProvider"]):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda providers=providers: providers)
        monkeypatch.setattr("drun.device.cuda.why_none", lambda: "there is no NVIDIA GPU")
        assert ort.Runtime.arithmetics(bundle.manifest.artifacts[0]) == ("fp32",)
        assert on("ort", bundle).describe() == "ONNX Runtime on CPU"


def test_an_onnxruntime_without_the_provider(bundle: Bundle) -> None:
    with pytest.raises(DeviceUnavailable, match="--device got cuda: this onnxruntime has none: pip install"):
        on("ort", bundle, device="cuda")


def test_a_machine_without_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("drun.device.cuda.why_none", lambda: "there is no NVIDIA GPU")
    with pytest.raises(DeviceUnavailable, match="--device got cuda: there is no NVIDIA GPU"):
        on("ort", bundle, device="cuda")


def test_a_session_that_went_on_without_cuda_is_refused(bundle: Bundle) -> None:
    """ONNX Runtime takes the processor without a word where its CUDA provider does not load."""
    session = open_session(bundle, bundle.manifest.artifacts[0], settings_of(0), ["CPUExecutionProvider"])
    check_provider(session, "CPUExecutionProvider", "")
    with pytest.raises(DeviceUnavailable, match=r"ONNX Runtime cannot use CUDA here: check the driver"):
        check_provider(session, "CUDAExecutionProvider", "check the driver")
