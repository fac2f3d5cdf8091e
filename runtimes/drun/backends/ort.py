"""ONNX Runtime: CPU, or CUDA where onnxruntime-gpu finds one."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from drun.backends import Backend, Probe
from drun.bundle.manifest import Artifact
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Array
from drun.errors import BackendUnavailable

# Full float32 products, as eager PyTorch computes them; the provider's default is TF32.
CUDA_OPTIONS = {"use_tf32": "0"}

#: mallopt's parameter, from glibc's malloc.h
M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 1 << 20


class Runtime(Backend):
    summary = "ONNX Runtime"
    formats = ("onnx",)

    @staticmethod
    def probe() -> Probe:
        install = "pip install 'dexport[ort]' (or 'dexport[ort-gpu]' for NVIDIA GPUs)"
        if find_spec("onnxruntime") is None:
            return Probe(False, "onnxruntime is not installed", install)
        try:
            import onnxruntime
        except ImportError as error:
            return Probe(False, f"onnxruntime is installed but does not load ({error})", install)
        return Probe(True, f"onnxruntime {onnxruntime.__version__}", install)

    def __init__(self, bundle: Bundle, artifact: Artifact | None, options: Mapping[str, Any]) -> None:
        assert artifact is not None
        self.output_shape = bundle.manifest.output_shape
        self.session = open_session(bundle.open_files(artifact), options)
        self.binding = self.session.io_binding()
        self.bound: tuple[Array, Array, Array | None] = (None, None, None)

    def describe(self) -> str:
        return f"ONNX Runtime on {self.session.get_providers()[0].removesuffix('ExecutionProvider')}"

    def predict(self, x: Array, t: Array, y: Array | None) -> Array:
        if not (x is self.bound[0] and t is self.bound[1] and y is self.bound[2]):
            self._bind(x, t, y)
        try:
            self.session.run_with_iobinding(self.binding)
        except Exception as error:
            raise BackendUnavailable(f"ONNX Runtime failed on a batch of {len(x)}: {error}") from error
        return self.out

    def _bind(self, x: Array, t: Array, y: Array | None) -> None:
        """Let the session read the caller's arrays and write one of ours, call after call."""
        self.bound, self.out = (x, t, y), np.empty((len(x), *self.output_shape), np.float32)
        self.binding.clear_binding_inputs()
        self.binding.clear_binding_outputs()
        for name, array in (("x", x), ("t", t), ("y", y)):
            if array is not None:
                assert array.flags.c_contiguous, f"{name} is bound by its address, so it must lie in one piece"
                self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.binding.bind_output("out", "cpu", 0, np.float32, self.out.shape, self.out.ctypes.data)

    def close(self) -> None:
        del self.binding, self.session


def open_session(path: Path, options: Mapping[str, Any]) -> Any:
    """An `onnxruntime.InferenceSession`, on CUDA where it can be.

    Raises:
        BackendUnavailable: it is not installed, or cannot open the file.
    """
    if not (found := Runtime.probe()).available:
        raise BackendUnavailable(f"{found.detail}; install it with: {found.install}")
    import onnxruntime

    _return_freed_memory()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.get("threads", 0)
    settings.log_severity_level = 4  # what it logs as an error it also raises
    providers: list[Any] = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", CUDA_OPTIONS))
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its own for every cause
        raise BackendUnavailable(f"ONNX Runtime {onnxruntime.__version__} cannot open '{path}': {error}") from error


def _return_freed_memory() -> None:
    """Let glibc give large freed blocks back at once.

    While a session is made, each weight is reordered and its first copy freed; without this the holes stay in the
    heap, and the peak is up to twice the weights instead of once.
    """
    with suppress(OSError, AttributeError):  # other C libraries have no mallopt, and do not need it
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
