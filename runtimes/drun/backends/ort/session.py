"""Opens a session of ONNX Runtime on a graph that the bundle lists."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drun.backends import check_signature
from drun.bundle.artifact import Artifact
from drun.bundle.onnx_files import check_external
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, DeviceUnavailable, reason

#: mallopt's parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE_BLOCK_BYTES = 1 << 20
#: what glibc's own thresholds grow to in a process that frees large blocks
GROWN_BYTES = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}


def settings_of(threads: int) -> Any:
    """The `onnxruntime.SessionOptions` of all devices.

    threads: of the processor; 0 is the library's choice.
    """
    settings = library().SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # it also raises what it logs as an error
    return settings


def open_session(bundle: Bundle, artifact: Artifact, settings: Any, providers: Sequence[Any] | None) -> Any:
    """An `onnxruntime.InferenceSession` of an artifact.

    Args:
        settings: see `settings_of`.
        providers: as ONNX Runtime takes them; None: those that the settings name.

    Raises:
        BackendUnavailable: it cannot open the file. BundleError: a file is damaged, not listed, or another network than
        the manifest says.
    """
    with bundle.using(*artifact.files) as paths:
        check_external(paths)
        try:
            session = session_of(paths[0], settings, providers)
        except Exception as error:  # onnxruntime raises classes of its own for every cause
            version = library().__version__
            raise BackendUnavailable(f"ONNX Runtime {version} cannot open '{paths[0]}': {reason(error)}") from error
    values = (*session.get_inputs(), *session.get_outputs())
    check_signature(artifact, paths[0], {value.name: (_dtype(value.type), tuple(value.shape)) for value in values})
    return session


def session_of(path: Path, settings: Any, providers: Sequence[Any] | None) -> Any:
    """An `onnxruntime.InferenceSession` of a file. onnxruntime raises classes of its own for every cause.

    It never goes on with a provider that nobody asked for, as ONNX Runtime does by default.
    """
    with _freed_memory_returned():
        return library().InferenceSession(str(path), settings, providers=providers, enable_fallback=0)


def check_provider(session: Any, name: str, advice: str) -> None:
    """Raises DeviceUnavailable if ONNX Runtime went on without a provider, which it does not say."""
    if session.get_providers()[0] != name:
        raise DeviceUnavailable(f"ONNX Runtime cannot use {name.removesuffix('ExecutionProvider')} here: {advice}")


def library() -> Any:
    """The module `onnxruntime`, imported without its telemetry, which keeps an identifier in the user's home.

    Raises:
        ImportError: it does not load.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when the library is loaded
    import onnxruntime

    return onnxruntime


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
