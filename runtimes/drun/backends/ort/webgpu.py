"""Any GPU that Vulkan, Metal or Direct3D 12 reaches, through ONNX Runtime's WebGPU provider, which is a plugin."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends.ort.node_count import NodeCount
from drun.backends.ort.on_device import OnDevice
from drun.backends.ort.session import check_provider, library, open_session, settings_of
from drun.bundle.artifact import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.errors import DeviceUnavailable
from drun.extras import is_installed
from drun.settings import RuntimeOptions
from drun.version import version_of

PROVIDER, PLUGIN = "WebGpuExecutionProvider", "onnxruntime_ep_webgpu"
INSTALL = "pip install 'dexport[webgpu]'"
#: Its shaders add in another order, and approximate tanh, exp and their like to what graphics need: 7.7e-5 was seen.
FP32_CALL = 2e-4
#: In ONNX Runtime's message on a GPU without float16.
NO_FP16 = "requires f16 but the device does not support it"
#: Where Linux keeps the manifests of Vulkan's drivers, which an update of a driver writes anew.
VULKAN_FOLDERS = (Path("/usr/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))


def why_not() -> str | None:
    """Why this device cannot be used here, in words; None if it can."""
    if not is_installed(PLUGIN):
        return f"its plugin is not installed: {INSTALL}"
    return None if _devices() else "there is no GPU that Vulkan, Metal or Direct3D 12 reaches"


@cache
def _devices() -> list[Any]:
    """The GPUs, the best first. The plugin is registered once for the process."""
    import onnxruntime_ep_webgpu

    onnxruntime = library()
    onnxruntime.set_default_logger_severity(4)  # a failure is raised, too
    onnxruntime.register_execution_provider_library("webgpu", onnxruntime_ep_webgpu.get_library_path())
    found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    return sorted(found, key=lambda one: one.device.type != onnxruntime.OrtHardwareDeviceType.GPU)


def facts() -> dict[str, str]:
    """The GPU, the provider, and what tells one driver from another: the system and, on Linux, Vulkan's manifests."""
    first = _devices()[0]
    named = os.environ.get("VK_DRIVER_FILES", os.environ.get("VK_ICD_FILENAMES", ""))
    manifests = [Path(name) for name in named.split(os.pathsep) if name] or sorted(
        path for folder in VULKAN_FOLDERS for path in folder.glob("*.json")
    )
    stamps = [f"{path} {path.stat().st_mtime_ns}" for path in manifests if path.is_file()]
    return {
        "gpu": f"{first.device.vendor} {first.device.vendor_id:x}:{first.device.device_id:x} {first.device.type.name}",
        "provider": version_of(PLUGIN.replace("_", "-")),
        "driver": "; ".join([platform.version(), *stamps]),
    }


def arithmetics(artifact: Artifact) -> tuple[str, ...]:
    """WebGPU has float32 and, where the GPU has it, float16."""
    return (artifact.precision,) if artifact.precision in ("fp32", "fp16") else ()


@contextmanager
def _fp16_here() -> Iterator[None]:
    """Raises DeviceUnavailable if the GPU has no float16, which is found as late as in a call."""
    try:
        yield
    except Exception as error:  # onnxruntime raises classes of its own for every cause
        if NO_FP16 not in str(error):
            raise
        raise DeviceUnavailable(
            "--device got webgpu: this GPU has no fp16, which the graph needs: use --precision fp32"
        ) from error


class OnWebGpu(OnDevice):
    """Arrays go to memory of the GPU that stays bound. One thread at a time."""

    name = "WebGPU"

    def __init__(self, bundle: Bundle, artifact: Artifact, arithmetic: str, options: RuntimeOptions) -> None:
        settings = settings_of(options.threads)
        self.node_count = NodeCount(settings)
        settings.add_provider_for_devices(_devices()[:1], {})
        with _fp16_here():
            self.session = open_session(bundle, artifact, settings, None)
        check_provider(self.session, PROVIDER, "check the driver by vulkaninfo")
        self.names = [tensor.name for tensor in artifact.io]
        self.output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.values: list[Any] = []

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        if not self.values or self.values[-1].shape()[0] != len(inputs[0]):
            self._bind(inputs)
        for array, value in zip(inputs, self.values, strict=False):
            value.update_inplace(array)
        with _fp16_here():
            self.session.run_with_iobinding(self.binding)
        self.node_count.note(self.session)
        out: NDArray[np.float32] = self.values[-1].numpy()
        return out

    def _bind(self, inputs: tuple[NDArray[Any], ...]) -> None:
        value_of = library().OrtValue
        self.binding = self.session.io_binding()
        self.values = [value_of.ortvalue_from_numpy(array, "gpu", 0) for array in inputs]
        for name, value in zip(self.names, self.values, strict=False):
            self.binding.bind_ortvalue_input(name, value)
        self.values.append(
            value_of.ortvalue_from_shape_and_type((len(inputs[0]), *self.output_shape), np.float32, "gpu", 0)
        )
        self.binding.bind_ortvalue_output(self.names[-1], self.values[-1])

    def tolerance(self, usual: Tolerance) -> Tolerance:
        return replace(usual, call=max(usual.call, FP32_CALL))

    def remark(self) -> str | None:
        return self.node_count.describe()


NETWORK = OnWebGpu
