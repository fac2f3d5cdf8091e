"""The runtimes: one file each, and the file name is the backend's id.

A file holds a class `Runtime(Backend)`. It opens one artifact and computes; names, shapes, casts and batching are
checked once, above it, in `drun.diffusion.batched`. `drun.run.opening` chooses what a backend opens.
"""

from __future__ import annotations

import pkgutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from drun.bundle.artifact import MAX_BATCH, Artifact, Tensor, Tolerance
from drun.bundle.reading import Bundle
from drun.device.walk import DeviceWalk
from drun.diffusion.arrays import Labels, State
from drun.diffusion.batched import Batched
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer, walk
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable
from drun.errors import BundleError, ConfigError
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

#: If several backends can open a bundle, `drun` takes the first of this list that can run; backends not named come
#: last.
PREFERENCE = ("ort", "trt", "openvino", "pt2", "coreml", "mil")


@dataclass(frozen=True)
class Probe:
    """Whether a backend can run here: its version, or else the reason and the command that installs it."""

    available: bool
    detail: str
    install: str = ""

    @property
    def why_not(self) -> str:
        """Why it cannot run here, and what to do."""
        return f"{self.detail}; install it with: {self.install}" if self.install else self.detail


class Backend(ABC):
    """One opened artifact. A thread holds the `lock` while it walks a table, so threads may share a backend.

    Args:
        bundle: the bundle that holds the artifact.
        artifact: an artifact of the denoiser or the decoder; None for a backend without formats.
        arithmetic: one of `arithmetics(artifact)`.
        options: how the runtime computes.

    Raises:
        BackendUnavailable: the runtime cannot open it. BundleError: a file is damaged, not listed, or another network
        than the manifest says. ConfigError: a device that the backend does not have.
    """

    #: the name of the runtime, for people
    summary: ClassVar[str]
    #: the artifact formats that it opens, the best first; empty if it needs no artifact
    formats: ClassVar[tuple[str, ...]]
    #: the devices that `--device` may name
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    #: the values of `--hint` that it follows
    hints: ClassVar[tuple[str, ...]] = ("latency",)
    #: whether it follows `--compile`
    can_compile: ClassVar[bool] = False
    #: whether it computes to be compared with, not to be fast: benchmarks leave it out unless it is named
    is_reference: ClassVar[bool] = False
    #: other words that people use for it -> the extra of this package that installs what they mean
    nicknames: ClassVar[Mapping[str, str]] = {}
    #: whole steps on a device, of a runtime that supplies an engine for it
    device_walk: DeviceWalk | None = None

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        if options.device not in (None, *self.devices):
            raise ConfigError(
                f"--device or --unit got '{options.device}', {self.summary} has {', '.join(self.devices)}"
            )
        if options.hint not in (None, *self.hints):
            able = [name for name in names() if options.hint in load(name).hints]
            raise ConfigError(
                f"--hint got '{options.hint}', {self.summary} does not follow it: use --backend {' or '.join(able)}"
            )
        if options.compile and not self.can_compile:
            able = [name for name in names() if load(name).can_compile]
            raise ConfigError(f"--compile does nothing for {self.summary}: use --backend {able[0]}")
        self.artifact, self.arithmetic, self.options = artifact, arithmetic, options
        self.lock = threading.RLock()
        self.is_closed = False
        batch = artifact.batch if artifact else (1, MAX_BATCH)
        self.batched = Batched(self.predict, bundle.manifest.data.shape, batch)

    @staticmethod
    @abstractmethod
    def probe() -> Probe:
        """Look for the runtime without opening anything."""

    @staticmethod  # noqa: B027, some runtimes have none
    def import_library() -> None:
        """Import the runtime's library, as opening an artifact does, so that its own memory is counted apart."""

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """The arithmetics in which it can compute an artifact here; the first one is the default.

        Args:
            device: one of `devices`; None: the first that is here.
        """
        return (artifact.precision,)

    @classmethod
    def setting(cls, artifact: Artifact, options: RuntimeOptions) -> Mapping[str, str] | None:
        """What its numbers depend on beside the files, such as the device, its driver and the system.

        None: on nothing of which the proof at the export does not speak. Otherwise the golden file runs before the
        first image: see `drun.run.opening.proven`.
        """
        return None

    @classmethod
    def safer(cls, artifact: Artifact, options: RuntimeOptions) -> list[RuntimeOptions]:
        """What else to try, in this order, where the golden file fails with these options."""
        return []

    @abstractmethod
    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """One call of the network, on contiguous arrays in the order and with the dtypes of the artifact's `io`.

        The arrays of a denoiser are x (N, C, H, W) float32, t (N,) float32 and, where there are classes, y (N,) int64.

        Returns the output, (N, ...) float32, which the next call may overwrite. The caller passes the same arrays again
        wherever it can, so that a backend may keep them bound.
        """

    def planned(self, table: StepTable, labels: Labels | None, guidance: Guidance) -> AbstractContextManager[None]:
        """Within it the backend knows what a walk will ask for; most runtimes compute nothing ahead.

        The caller holds the lock. table, labels, guidance: see `drun.diffusion.loop.walk`.
        """
        return nullcontext()

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """Carry one batch through a whole table, as `drun.diffusion.loop.walk` says.

        Whole steps on the device, if there is a `device_walk` that can do it, else the loop on the host, a call of
        `predict` a row. A backend that keeps arrays on a device in another way overrides it. The caller holds the lock.
        """
        if self.device_walk is not None and self.device_walk.can(table, x):
            return self.device_walk(table, x, labels, guidance, noise, observer)
        return walk(self.batched, table, x, labels, guidance, noise, observer)

    def tolerance(self, usual: Tolerance) -> Tolerance:
        """The largest difference from eager PyTorch that passes: wider than usual where the device has a reason."""
        return usual

    def describe(self) -> str:
        """The runtime and its device in words, for run.json and reports."""
        return self.summary

    def computes(self) -> str:
        """The arithmetic in words, such as `in bf16`, and what is computed instead where it is another; fp32: none."""
        return "" if self.arithmetic == "fp32" else f"in {self.arithmetic}"

    def remark(self) -> str | None:
        """What people should know of the numbers that it computed so far; most runtimes see none of them."""
        return None

    def findings(self) -> dict[str, Any]:
        """The same as values, for JSON."""
        return {}

    def close(self) -> None:  # noqa: B027, most runtimes have nothing to free
        """Free the runtime's memory."""


def names() -> list[str]:
    """The preferred ones first."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return [name for name in PREFERENCE if name in found] + sorted(found - set(PREFERENCE))


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


#: name -> (dtype, shape) of a graph's inputs and outputs; a side that is not fixed is text or None
Signature = Mapping[str, tuple[str, tuple[int | str | None, ...]]]


def check_signature(artifact: Artifact, path: Path, found: Signature) -> None:
    """Compare the inputs and outputs that a runtime opened with those that the manifest lists.

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
