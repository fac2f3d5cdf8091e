"""ONNX Runtime: on the processor, on NVIDIA GPUs through CUDA, and on any GPU through WebGPU.

A device is a file of this folder, with `why_not`, `arithmetics`, `facts` of what its numbers depend on, and `NETWORK`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe
from drun.backends.ort.on_device import OnDevice
from drun.backends.ort.session import library
from drun.bundle.artifact import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, DeviceUnavailable, UserError, reason
from drun.extras import is_installed
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

CPU_WORDS = ("onnxruntime", "onnx", "cpu")
CUDA_WORDS = ("cuda", "gpu", "nvidia", "onnxruntime-gpu", "ort-gpu")
WEBGPU_WORDS = ("webgpu", "vulkan", "metal", "d3d12")


class Runtime(Backend):
    summary = "ONNX Runtime"
    formats = ("onnx",)
    devices = ("cpu", "cuda", "webgpu")
    nicknames = (
        dict.fromkeys(CPU_WORDS, "ort") | dict.fromkeys(CUDA_WORDS, "ort-gpu") | dict.fromkeys(WEBGPU_WORDS, "webgpu")
    )

    @staticmethod
    def probe() -> Probe:
        install = "pip install 'dexport[ort]' (or 'dexport[ort-gpu]' for NVIDIA GPUs)"
        if not is_installed("onnxruntime"):
            return Probe(False, "onnxruntime is not installed", install)
        try:
            onnxruntime = library()
        except ImportError as error:
            return Probe(False, f"onnxruntime is installed but does not load ({error})", install)
        return Probe(True, f"onnxruntime {onnxruntime.__version__}", install)

    @staticmethod
    def import_library() -> None:
        library()

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """Those of the device; of CUDA, if none is named and it is here."""
        found: tuple[str, ...] = _place(device or _usual_device()).arithmetics(artifact)
        return found

    @classmethod
    def setting(cls, artifact: Artifact, options: RuntimeOptions) -> dict[str, str] | None:
        """On a GPU: its name and driver. The proof at the export was made on a processor.

        Raises:
            DeviceUnavailable: there is no such device.
        """
        device = options.device or _usual_device()
        found: dict[str, str] | None = _checked(device).facts()
        return None if found is None else {"device": device, "onnxruntime": library().__version__, **found}

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        if not (found := self.probe()).available:
            raise BackendUnavailable(found.why_not)
        self.device = options.device or _usual_device()
        self.network: OnDevice = _checked(self.device).NETWORK(bundle, artifact, arithmetic, options)
        self.device_walk = self.network.device_walk

    def describe(self) -> str:
        return f"ONNX Runtime on {self.network.name}"

    def computes(self) -> str:
        """On a processor it takes all casts out of an fp16 graph, which leaves float32 with rounded weights."""
        if self.arithmetic == "fp16" and self.device == "cpu":
            return "in fp16, computed in fp32 with the weights rounded to fp16"
        return super().computes()

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return self.network.predict(*inputs)
        except UserError:
            raise
        except Exception as error:  # onnxruntime raises classes of its own for every cause
            raise BackendUnavailable(f"ONNX Runtime failed on a batch of {len(inputs[0])}: {reason(error)}") from error

    def tolerance(self, usual: Tolerance) -> Tolerance:
        return self.network.tolerance(usual)

    def remark(self) -> str | None:
        return self.network.remark()

    def close(self) -> None:
        del self.network, self.device_walk


def _usual_device() -> str:
    return "cpu" if _place("cuda").why_not() else "cuda"


def _checked(device: str) -> Any:
    """Raises DeviceUnavailable if the device cannot be used here."""
    if why := _place(device).why_not():
        raise DeviceUnavailable(f"--device got {device}: {why}")
    return _place(device)


def _place(device: str) -> Any:
    return import_module(f"{__name__}.{device}")
