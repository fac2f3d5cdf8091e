"""ONNX Runtime: CPU, or CUDA where onnxruntime-gpu finds one."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend, Probe, check_signature
from drun.bundle.artifact import Artifact
from drun.bundle.onnx_files import check_external
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, DeviceUnavailable, reason
from drun.extras import is_installed
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

#: mallopt's parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE_BLOCK_BYTES = 1 << 20
#: what glibc's own thresholds grow to in a process that frees large blocks
GROWN_BYTES = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}

CPU_WORDS = ("onnxruntime", "onnx", "cpu")
GPU_WORDS = ("cuda", "gpu", "nvidia", "onnxruntime-gpu", "ort-gpu")


class Runtime(Backend):
    summary = "ONNX Runtime"
    formats = ("onnx",)
    devices = ("cpu", "cuda")
    nicknames = dict.fromkeys(CPU_WORDS, "ort") | dict.fromkeys(GPU_WORDS, "ort-gpu")

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
        """The precision of the graph; for an fp32 graph on CUDA also tf32. It has no bf16 for processors."""
        if device == "cpu" or not has_cuda():
            return () if artifact.precision == "bf16" else (artifact.precision,)
        return ("fp32", "tf32") if artifact.precision == "fp32" else (artifact.precision,)

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        self.names = [tensor.name for tensor in artifact.io]
        self.output_shape = tuple(int(side) for side in artifact.io[-1].shape[1:])
        self.session = open_session(bundle, artifact, options, is_tf32=arithmetic == "tf32")
        self.own = threading.local()

    def describe(self) -> str:
        return f"ONNX Runtime on {self.session.get_providers()[0].removesuffix('ExecutionProvider')}"

    def computes(self) -> str:
        """On a processor it takes all casts out of an fp16 graph, which leaves float32 with rounded weights."""
        if self.arithmetic == "fp16" and self.session.get_providers()[0] == "CPUExecutionProvider":
            return "in fp16, computed in fp32 with the weights rounded to fp16"
        return super().computes()

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        try:
            bound = self._bound(inputs)
            self.session.run_with_iobinding(bound.binding)
        except Exception as error:
            raise BackendUnavailable(f"ONNX Runtime failed on a batch of {len(inputs[0])}: {reason(error)}") from error
        return bound.out

    def _bound(self, inputs: tuple[NDArray[Any], ...]) -> Bound:
        """This thread's binding of the arrays. Threads may share a session, but not a binding."""
        bound: Bound | None = getattr(self.own, "bound", None)
        if bound is None or not bound.holds(inputs):
            bound = self.own.bound = Bound(self.session, self.names, self.output_shape, inputs)
        return bound

    def close(self) -> None:
        del self.own, self.session


class Bound:
    """A session that reads the caller's arrays and writes into one array of ours, call after call."""

    def __init__(
        self, session: Any, names: Sequence[str], output_shape: tuple[int, ...], inputs: tuple[NDArray[Any], ...]
    ) -> None:
        self.inputs = inputs
        self.out = np.empty((len(inputs[0]), *output_shape), np.float32)
        self.binding = session.io_binding()
        for name, array in zip(names, inputs, strict=False):
            assert array.flags.c_contiguous, f"{name} is bound by its address, so it must lie in one piece"
            self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.binding.bind_output(names[-1], "cpu", 0, np.float32, self.out.shape, self.out.ctypes.data)

    def holds(self, inputs: tuple[NDArray[Any], ...]) -> bool:
        """Whether these very arrays are bound."""
        return all(one is other for one, other in zip(self.inputs, inputs, strict=True))


def open_session(bundle: Bundle, artifact: Artifact, options: RuntimeOptions, is_tf32: bool = False) -> Any:
    """An `onnxruntime.InferenceSession` of an artifact, on CUDA where that works, unless the options say otherwise.

    Args:
        is_tf32: whether products on CUDA may be in TF32, which is the provider's own default.

    Raises:
        BackendUnavailable: it is not installed, or cannot open the file. BundleError: a file is damaged, not listed, or
        another network than the manifest says.
    """
    if not (found := Runtime.probe()).available:
        raise BackendUnavailable(found.why_not)
    onnxruntime = library()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4  # it also raises what it logs as an error
    providers = _providers(options.device, is_tf32)
    with bundle.using(*artifact.files) as paths:
        check_external(paths)
        try:
            session = session_of(paths[0], settings, providers)
        except Exception as error:  # onnxruntime raises classes of its own for every cause
            version = onnxruntime.__version__
            raise BackendUnavailable(f"ONNX Runtime {version} cannot open '{paths[0]}': {reason(error)}") from error
    check_on_cuda(session, is_asked=options.device == "cuda" or is_tf32)
    values = (*session.get_inputs(), *session.get_outputs())
    check_signature(artifact, paths[0], {value.name: (_dtype(value.type), tuple(value.shape)) for value in values})
    return session


def session_of(path: Path, settings: Any, providers: Sequence[Any]) -> Any:
    """An `onnxruntime.InferenceSession` of a file. onnxruntime raises classes of its own for every cause."""
    with _freed_memory_returned():
        return library().InferenceSession(str(path), settings, providers=providers)


def library() -> Any:
    """The module `onnxruntime`, imported without its telemetry, which keeps an identifier in the user's home.

    Raises:
        ImportError: it does not load.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    import onnxruntime

    return onnxruntime


def has_cuda() -> bool:
    return "CUDAExecutionProvider" in library().get_available_providers()


def _providers(device: str | None, is_tf32: bool) -> list[Any]:
    """Raises DeviceUnavailable if the device is CUDA, and this onnxruntime cannot use it."""
    if device == "cuda" and not has_cuda():
        raise DeviceUnavailable("--device got cuda, this onnxruntime has none: pip install 'dexport[ort-gpu]'")
    if device == "cpu" or not has_cuda():
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"use_tf32": str(int(is_tf32))}), "CPUExecutionProvider"]


def check_on_cuda(session: Any, is_asked: bool) -> None:
    """Raises DeviceUnavailable if CUDA was asked for, and ONNX Runtime went on without it, which it does not say."""
    if is_asked and session.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceUnavailable("ONNX Runtime cannot use CUDA here: check the driver, CUDA and cuDNN by nvidia-smi")


def _dtype(name: str) -> str:
    """`tensor(float)` -> `float32`; what numpy calls otherwise stays."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)


@contextmanager
def _freed_memory_returned() -> Iterator[None]:
    """Let glibc give large freed blocks back at once, while a session is made.

    Each weight is reordered and its first copy freed then; without this the holes stay in the heap, and the peak is up
    to twice the weights instead of once. Afterwards the process reuses its blocks again: without that, eager PyTorch in
    the same process was up to 1.6 times slower.
    """
    _set_malloc({M_MMAP_THRESHOLD: LARGE_BLOCK_BYTES})
    try:
        yield
    finally:
        _set_malloc(GROWN_BYTES)


def _set_malloc(parameters: dict[int, int]) -> None:
    with suppress(OSError, AttributeError):  # other C libraries have no mallopt, and do not need it
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in parameters.items():
            mallopt(parameter, size)
