"""An opened candidate, which draws images and is compared with eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from drun import backends
from drun.backends import Backend
from drun.bundle.artifact import Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer, walk
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable
from drun.errors import ConfigError
from drun.run.opening.candidates import Candidate, check_available
from drun.run.opening.split import Split
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions


@dataclass(frozen=True)
class Opened:
    """A backend, the artifact that it opened, and the arithmetic that it computes in."""

    candidate: Candidate
    backend: Backend

    @property
    def artifact(self) -> Artifact | None:
        return self.candidate.artifact

    @property
    def arithmetic(self) -> str:
        return self.candidate.arithmetic

    @property
    def name(self) -> str:
        """The backend's id."""
        return self.candidate.backend

    def tolerance(self, is_decoder: bool = False) -> Tolerance:
        """The largest difference from eager PyTorch that passes, on this device."""
        return self.backend.tolerance(self.candidate.tolerance(is_decoder))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the backend for this thread. Raises ConfigError if it was closed."""
        with self.backend.lock:
            if self.backend.is_closed:
                raise ConfigError(f"{self.candidate.name} was closed, expected an open session: open another one")
            yield

    def call(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        """Call the denoiser on any batch: (N, C, H, W) -> (N, C or 2 C, H, W), which the next call overwrites."""
        with self.alone():
            return self.backend.batched(x, t, labels)

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """See `Backend.walk`. Threads may share it: one thread walks at a time.

        A batch that is smaller than the artifact takes, or with guidance larger, is walked by the loop on the host,
        which pads and cuts.
        """
        is_doubled = labels is not None and any(row.w != 1 for row in table.rows)
        fits = self.takes(len(x), is_doubled)
        carry: Callable[..., State] = self.backend.walk if fits else partial(walk, self.backend.batched)
        with self.alone(), self.backend.planned(table, labels, guidance):
            return carry(table, x, labels, guidance, noise, observer)

    def takes(self, count: int, is_doubled: bool) -> bool:
        """Whether the artifact takes `count` images in a call, and twice as many where a walk has guided rows."""
        low, high = self.artifact.batch if self.artifact else (1, count * 2)
        return low <= count and count * (2 if is_doubled else 1) <= high

    def largest_batch(self, table: StepTable) -> int:
        """The most images that it carries through the table at once.

        With guidance this is half the artifact's largest batch.
        """
        high = self.artifact.batch[1] if self.artifact else 2**16
        return max(1, high // 2) if any(row.w != 1 for row in table.rows) else high

    def describe(self) -> str:
        """The runtime, the device and the arithmetic, such as `OpenVINO on CPU in bf16`."""
        with self.alone():
            return f"{self.backend.describe()} {self.backend.computes()}".rstrip()

    def close(self) -> None:
        """Close the backend after the calls and walks of other threads. Closing it again does nothing."""
        with self.backend.lock:
            if not self.backend.is_closed:
                self.backend.is_closed = True
                self.backend.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()


def open_candidate(bundle: Bundle, candidate: Candidate, options: RuntimeOptions = DEFAULT_OPTIONS) -> Opened:
    """Open a candidate. Raises ConfigError, BackendUnavailable or BundleError as `choose` and the backend do."""
    check_available(candidate.backend)
    runtime, artifact = backends.load(candidate.backend), candidate.artifact
    if artifact is not None and artifact.conditioning is not None:
        return Opened(candidate, Split(runtime, bundle, artifact, candidate.arithmetic, options))
    return Opened(candidate, runtime(bundle, artifact, candidate.arithmetic, options))
