"""NVIDIA GPUs: whole steps stay on the device, on one stream, and ONNX Runtime replays its part as a CUDA graph."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends.ort.engine import SessionEngine
from drun.backends.ort.node_count import NodeCount
from drun.backends.ort.on_device import OnDevice
from drun.backends.ort.session import check_provider, library, open_session, settings_of
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.console import warn
from drun.device import cuda
from drun.device.calls import DeviceCalls
from drun.device.walk import DeviceWalk
from drun.errors import BackendUnavailable
from drun.settings import RuntimeOptions

PROVIDER = "CUDAExecutionProvider"
INSTALL = "pip install 'dexport[ort-gpu]'"
#: ONNX Runtime's words where nodes on the processor, or copies to it, keep a session from being a graph of CUDA.
NO_GRAPH = "graph capture feature"


def why_not() -> str | None:
    """Why this device cannot be used here, in words; None if it can."""
    if PROVIDER not in library().get_available_providers():
        return f"this onnxruntime has none: {INSTALL}"
    return cuda.why_none()


def facts() -> dict[str, str]:
    """See `drun.device.cuda.facts`."""
    return cuda.facts()


def arithmetics(artifact: Artifact) -> tuple[str, ...]:
    """The precision of the graph; for an fp32 graph also tf32."""
    return ("fp32", "tf32") if artifact.precision == "fp32" else (artifact.precision,)


class OnCuda(OnDevice):
    """One thread at a time."""

    name = "CUDA"

    def __init__(self, bundle: Bundle, artifact: Artifact, arithmetic: str, options: RuntimeOptions) -> None:
        self.device = cuda.Cuda()
        with redirect_stdout(StringIO()):  # where it says what it did not find; what is missing fails below, in words
            library().preload_dlls()
        self.session, self.node_count = self._opened(bundle, artifact, arithmetic == "tf32", options)
        check_provider(self.session, PROVIDER, "check the driver, CUDA and cuDNN by nvidia-smi")
        engine = SessionEngine(self.session, artifact, "cuda", self.node_count)
        output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.calls = DeviceCalls(self.device, engine, output_shape)
        self.device_walk = DeviceWalk(self.device, engine, output_shape[0])

    def _opened(
        self, bundle: Bundle, artifact: Artifact, is_tf32: bool, options: RuntimeOptions
    ) -> tuple[Any, NodeCount]:
        own = {"use_tf32": str(int(is_tf32)), "user_compute_stream": str(self.device.handle)}
        try:
            return self._session(bundle, artifact, own | {"enable_cuda_graph": "1"}, options)
        except BackendUnavailable as error:
            if NO_GRAPH not in str(error):
                raise
            warn(f"{artifact.id} is no graph of CUDA, so its calls take longer: {error}")
            return self._session(bundle, artifact, own, options)

    def _session(
        self, bundle: Bundle, artifact: Artifact, own: dict[str, str], options: RuntimeOptions
    ) -> tuple[Any, NodeCount]:
        settings = settings_of(options.threads)
        node_count = NodeCount(settings)
        return open_session(bundle, artifact, settings, [(PROVIDER, own), "CPUExecutionProvider"]), node_count

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        return self.calls(*inputs)

    def remark(self) -> str | None:
        return self.node_count.describe()


NETWORK = OnCuda
