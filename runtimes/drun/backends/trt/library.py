"""The module of TensorRT: `tensorrt`, or `tensorrt_rtx`, whose builder needs no GPU. Both have the same names."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from drun.errors import BackendUnavailable, reason
from drun.extras import is_installed

#: module -> its distribution; the first one that is installed is taken
MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
INSTALL = "pip install 'dexport[trt]' (or 'dexport[rtx]' for GeForce and RTX GPUs)"


def name() -> str | None:
    """The module that is installed; None if there is none."""
    return next((module for module in MODULES if is_installed(module)), None)


@cache
def library() -> Any:
    """The module, imported.

    Raises:
        BackendUnavailable: none is installed, or it does not load.
    """
    module = name()
    if module is None:
        raise BackendUnavailable(f"TensorRT is not installed; install it with: {INSTALL}")
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise BackendUnavailable(f"{module} is installed but does not load ({reason(error)})") from error


def version() -> str:
    """Its name and version, such as `tensorrt_rtx 1.7.1.116`."""
    return f"{library().__name__} {library().__version__}"


@cache
def logger() -> Any:
    """The one logger of the process, because TensorRT ignores a second one. It keeps the errors."""
    trt = library()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def errors() -> str:
    """What TensorRT has said since the last time this was asked, in one line."""
    said = list(dict.fromkeys(logger().errors))
    logger().errors.clear()
    return reason(RuntimeError("; ".join(said) or "it does not say why"))
