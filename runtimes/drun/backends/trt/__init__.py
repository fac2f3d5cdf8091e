"""TensorRT on NVIDIA GPUs: plans of a bundle, or ONNX graphs, of which it builds plans and keeps them in the cache.

A plan holds code for a GPU, so one of a bundle is opened on trust only: see `drun.trust`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun import trust
from drun.backends import Backend, Probe, check_signature
from drun.backends.trt import library
from drun.backends.trt.building import PlanOptions
from drun.backends.trt.engine import PlanEngine
from drun.backends.trt.plans import cached_engine, opened
from drun.backends.trt.profiles import profiles_for
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.device import cuda
from drun.device.calls import DeviceCalls
from drun.device.walk import DeviceWalk
from drun.errors import BackendUnavailable, BundleError
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions
from drun.version import version_of

PRECISIONS = ("fp32", "fp16", "bf16")


class Runtime(Backend):
    summary = "TensorRT"
    formats = ("trt", "onnx")
    devices = ("cuda",)
    nicknames = dict.fromkeys(("tensorrt", "rt"), "trt") | dict.fromkeys(("tensorrt-rtx", "rtx"), "rtx")

    @staticmethod
    def probe() -> Probe:
        """A driver is looked for before any object of TensorRT is made, which could end the process without one."""
        module = library.name()
        if module is None:
            return Probe(False, "TensorRT is not installed", library.INSTALL)
        if why := cuda.why_none():
            return Probe(False, why)
        return Probe(True, f"{module} {version_of(library.MODULES[module])}")

    @staticmethod
    def import_library() -> None:
        library.library()

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """The precision of the graph; of an fp32 graph that is not built yet also tf32."""
        if artifact.precision not in PRECISIONS:
            return ()
        is_open = artifact.format == "onnx" and artifact.precision == "fp32"
        return ("fp32", "tf32") if is_open else (artifact.precision,)

    @classmethod
    def setting(cls, artifact: Artifact, options: RuntimeOptions) -> dict[str, str]:
        """The GPU, its driver and TensorRT: no proof speaks of another one. Raises DeviceUnavailable without a GPU."""
        return {**cuda.facts(), "library": library.version()}

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        self.device = cuda.Cuda()
        engine = self._opened(bundle, artifact)
        plan = PlanEngine(engine, artifact.io, self.device.handle, self.device.free_bytes)
        check_signature(artifact, bundle.locate(artifact.files[0]), plan.signature())
        output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.calls = DeviceCalls(self.device, plan, output_shape)
        self.device_walk = DeviceWalk(self.device, plan, output_shape[0])

    def _opened(self, bundle: Bundle, artifact: Artifact) -> Any:
        if artifact.format == "onnx":
            built_for = PlanOptions(artifact.io[:-1], profiles_for(artifact.batch), self.arithmetic == "tf32")
            return cached_engine(bundle, artifact, built_for, self.setting(artifact, self.options))
        entry = artifact.files[0]
        trust.check(bundle.locate(entry), entry.sha256, self.options.trust)
        with bundle.using(entry) as (path,):
            try:
                return opened(path)
            except BackendUnavailable as error:
                builder = " ".join(map(" ".join, artifact.producers.items()))
                raise BundleError(
                    f"{library.version()} refuses '{path}', which {builder} built: {error}; derive it again here, by "
                    "dexport trt"
                ) from error

    def describe(self) -> str:
        return f"{library.version()} on {self.device.gpu.name}"

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        return self.calls(*inputs)

    def close(self) -> None:
        del self.calls, self.device_walk, self.device
