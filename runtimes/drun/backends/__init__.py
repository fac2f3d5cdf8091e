"""The runtimes: one file each, and the file name is the backend's id.

A file holds a class `Runtime(Backend)`. It opens one artifact and computes; names, shapes, casts, batching and
guidance are checked once, above it, in `drun.run.denoiser` and `drun.diffusion.guidance`.
"""

from __future__ import annotations

import pkgutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from drun.bundle.artifact import Artifact, Tensor
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Array
from drun.errors import BackendUnavailable, BundleError, ConfigError


@dataclass(frozen=True)
class Probe:
    """Whether a backend can run here: the version, or the reason why not and the command that mends it."""

    available: bool
    detail: str
    install: str = ""


class Backend(ABC):
    """One opened artifact. Whoever walks a table with it holds its `lock`, so that threads may share it."""

    lock: threading.RLock

    #: what the backend computes with, for people
    summary: ClassVar[str]
    #: artifact formats it opens; empty if it needs none
    formats: ClassVar[tuple[str, ...]]
    #: other words that people say for it -> the extra of this package that brings what they mean
    nicknames: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *_: Any, **__: Any) -> Self:
        backend = super().__new__(cls)
        backend.lock = threading.RLock()
        return backend

    @staticmethod
    @abstractmethod
    def probe() -> Probe:
        """Look for the runtime without opening anything."""

    @abstractmethod
    def __init__(self, bundle: Bundle, artifact: Artifact | None, options: Mapping[str, Any]) -> None:
        """Open `artifact` of `bundle`. Options: `threads` (0: the runtime's choice)."""

    @abstractmethod
    def predict(self, x: Array, t: Array, y: Array | None) -> Array:
        """One network call. x: (N, C, H, W) float32, t: (N,) float32, y: (N,) int64 or None, all contiguous.

        Returns the raw output, (N, *manifest.output_shape) float32, which the next call may overwrite. The caller
        passes the same arrays again wherever it can, so that a backend may keep them bound.
        """

    def describe(self) -> str:
        """What it runs on, for run.json and reports."""
        return self.summary

    def close(self) -> None:  # noqa: B027, most runtimes have nothing to free
        """Free the runtime's memory."""


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Backend]:
    """The class of backend `name`.

    Raises:
        ConfigError: unknown backend; the message says which one is meant by a word such as cuda.
    """
    if name in names():
        return _runtime(name)
    for meant in names():
        if extra := _runtime(meant).nicknames.get(name.lower()):
            raise ConfigError(
                f"unknown backend '{name}': use --backend {meant}, which is {_runtime(meant).summary}; "
                f"install it with: pip install 'dexport[{extra}]'"
            )
    raise ConfigError(f"unknown backend '{name}': choose one of {', '.join(names())}")


def _runtime(name: str) -> type[Backend]:
    runtime: type[Backend] = import_module(f"{__name__}.{name}").Runtime
    return runtime


def open_backend(name: str, bundle: Bundle, precision: str | None = None, options: Mapping[str, Any] = {}) -> Backend:
    """Open the bundle's artifact for backend `name`.

    Raises:
        ConfigError: unknown backend. BackendUnavailable: it cannot run here. BundleError: nothing to open.
    """
    runtime = load(name)
    probe = runtime.probe()
    if not probe.available:
        raise BackendUnavailable(f"backend '{name}' is not available: {probe.detail}; install it with: {probe.install}")
    artifact = bundle.artifact(runtime.formats, precision) if runtime.formats else None
    return runtime(bundle, artifact, options)


#: name -> (dtype, shape) of a graph's inputs and outputs; a side that is not fixed is text or None
Signature = Mapping[str, tuple[str, tuple[int | str | None, ...]]]


def check_io(artifact: Artifact, path: Path, found: Signature) -> None:
    """Compare what a runtime opened with what the manifest says of it.

    Raises:
        BundleError: an input or output is missing, too many, or of another dtype or shape.
    """
    expected = {tensor.name: tensor for tensor in artifact.io}
    for name in expected.keys() | found.keys():
        if name not in expected or name not in found or not _fits(expected[name], found[name], artifact.batch):
            got = " ".join(map(str, found[name])) if name in found else "nothing"
            wanted = f"{expected[name].dtype} {expected[name].shape}" if name in expected else "nothing"
            raise BundleError(f"'{path}' is not the manifest's network: '{name}' got {got}, expected {wanted}")


def _fits(tensor: Tensor, found: tuple[str, tuple[int | str | None, ...]], batch: tuple[int, int]) -> bool:
    dtype, sides = found
    if dtype != tensor.dtype or len(sides) != len(tensor.shape):
        return False
    return all(_fits_side(side, wanted, batch) for side, wanted in zip(sides, tensor.shape, strict=True))


def _fits_side(side: int | str | None, expected: int | str, batch: tuple[int, int]) -> bool:
    if expected != "N":
        return side == expected
    low, high = batch
    return batch == (side, side) if isinstance(side, int) else low < high
