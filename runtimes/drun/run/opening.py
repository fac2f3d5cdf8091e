"""Which backend opens which artifact in which arithmetic: chosen once, and handed on as one object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from drun import backends
from drun.backends import Backend
from drun.bundle.artifact import DECODER_TOLERANCES, TOLERANCES, Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable
from drun.errors import BackendUnavailable, BundleError, ConfigError
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions


@dataclass(frozen=True)
class Candidate:
    """What could be opened."""

    backend: str
    artifact: Artifact | None  # None: the backend needs none
    arithmetic: str

    @property
    def name(self) -> str:
        """Such as `ort onnx-fp32`, or `openvino onnx-fp32 in bf16`."""
        if self.artifact is None:
            return self.backend
        other = "" if self.arithmetic == self.artifact.precision else f" in {self.arithmetic}"
        return f"{self.backend} {self.artifact.id}{other}"

    def tolerance(self, is_decoder: bool = False) -> Tolerance:
        """How far from eager PyTorch it may be."""
        if self.artifact is not None and self.arithmetic == self.artifact.precision:
            return self.artifact.tolerance
        return (DECODER_TOLERANCES if is_decoder else TOLERANCES)[self.arithmetic]


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

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the backend for this thread. Raises ConfigError if it was closed."""
        with self.backend.lock:
            if self.backend.is_closed:
                raise ConfigError(f"{self.candidate.name} was closed, expected an open session: open another one")
            yield

    def call(self, x: State, t: float, labels: Labels | None) -> NDArray[np.float32]:
        """One call of the denoiser on any batch: (N, C, H, W) -> (N, C or 2 C, H, W), which the next overwrites."""
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
        """As `Backend.walk`. Threads may share it: one walks at a time.

        A batch that is smaller than the artifact's, or with guidance larger, takes the loop on the host, which pads
        and cuts.
        """
        low, high = self.artifact.batch if self.artifact else (1, len(x) * 2)
        is_doubled = labels is not None and any(row.w != 1 for row in table.rows)
        fits = low <= len(x) and len(x) * (2 if is_doubled else 1) <= high
        walk: Callable[..., State] = type(self.backend).walk if fits else Backend.walk
        with self.alone():
            return walk(self.backend, table, x, labels, guidance, noise, observer)

    def largest_batch(self, table: StepTable) -> int:
        """How many images it carries through the table at once: half the artifact's largest batch where it guides."""
        high = self.artifact.batch[1] if self.artifact else 2**16
        return max(1, high // 2) if any(row.w != 1 for row in table.rows) else high

    def describe(self) -> str:
        """Such as `OpenVINO on CPU in bf16`."""
        with self.alone():
            where = self.backend.describe()
        usual = self.artifact is None or self.arithmetic == "fp32"
        return where + ("" if usual else f" in {self.arithmetic}")

    def close(self) -> None:
        """After the call or walk that another thread is in; again does nothing."""
        with self.backend.lock:
            if not self.backend.is_closed:
                self.backend.is_closed = True
                self.backend.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()


# ---- what there is --------------------------------------------------------------------------------------


def candidates(bundle: Bundle, names: Sequence[str] = (), device: str | None = None) -> list[Candidate]:
    """Every artifact of the denoiser x able backend x arithmetic, the preferred backends first.

    Args:
        names: of backends; none: all that can run here.
        device: that they will compute on; None: the first of each backend's.

    Raises:
        ConfigError: an unknown backend. BackendUnavailable: a named one cannot run here, or none can.
    """
    return list(_found(bundle, names, device))


def _found(bundle: Bundle, names: Sequence[str], device: str | None) -> Iterator[Candidate]:
    """As `candidates`, one by one: a backend that is not needed does not load its library."""
    for name in names:
        check_available(name)
    is_none = True
    for name in names or backends.names():
        if names or backends.load(name).probe().available:
            for candidate in _of_backend(name, bundle.manifest.artifacts, device):
                is_none = False
                yield candidate
    if is_none:
        raise BackendUnavailable(_why_none(bundle, bundle.manifest.artifacts))


def _why_none(bundle: Bundle, artifacts: Sequence[Artifact]) -> str:
    """With the install line of the preferred backend that could open one of these."""
    for name in backends.names():
        runtime = backends.load(name)
        if any(artifact.format in runtime.formats for artifact in artifacts):
            probe = runtime.probe()
            return (
                f"no backend here can open '{bundle.path}': '{name}' is not available, {probe.detail}; "
                f"install it with: {probe.install}"
            )
    held = ", ".join(artifact.id for artifact in artifacts) or "nothing"
    return f"no backend opens what '{bundle.path}' holds, which is {held}: use a newer drun, or export another target"


def _of_backend(name: str, artifacts: Sequence[Artifact], device: str | None) -> Iterator[Candidate]:
    """The best format first, and of each artifact its own arithmetic."""
    runtime = backends.load(name)
    for artifact_format in runtime.formats:
        for artifact in artifacts:
            if artifact.format == artifact_format:
                for arithmetic in runtime.arithmetics(artifact, device):
                    yield Candidate(name, artifact, arithmetic)


def unavailable(bundle: Bundle) -> dict[str, str]:
    """The backends that could open something of the bundle, but not here, and why."""
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    probes = {name: backends.load(name).probe() for name in backends.names() if held & {*backends.load(name).formats}}
    return {
        name: f"{probe.detail}; install it with: {probe.install}"
        for name, probe in probes.items()
        if not probe.available
    }


def check_available(name: str) -> None:
    """Raises BackendUnavailable, with the install line, if a backend cannot run here; ConfigError if there is none."""
    probe = backends.load(name).probe()
    if not probe.available:
        raise BackendUnavailable(f"backend '{name}' is not available: {probe.detail}; install it with: {probe.install}")


# ---- one of them ----------------------------------------------------------------------------------------


def choose(
    bundle: Bundle,
    backend: str | None = None,
    precision: str | None = None,
    artifact: str | None = None,
    device: str | None = None,
) -> Candidate:
    """What to open.

    Args:
        backend: its id; None: the first of `backends.PREFERENCE` that can.
        precision: the arithmetic; None: the backend's default for the artifact.
        artifact: its id, such as onnx-fp32; None: the first that fits.
        device: see `candidates`.

    Raises:
        ConfigError: unknown backend, an arithmetic that nothing here computes in, or an artifact for a backend that
        opens none. BackendUnavailable: it cannot run here. BundleError: there is no such artifact.
    """
    if backend is not None and not backends.load(backend).formats:
        if artifact is not None or precision not in (None, "fp32"):
            got = f"--artifact got '{artifact}'" if artifact else f"--precision got '{precision}'"
            raise ConfigError(f"{got}, backend '{backend}' opens no artifact and computes in fp32: leave it out")
        return Candidate(backend, None, "fp32")
    if backend is not None:
        _check_format(bundle, backend)
    names = () if backend is None else (backend,)
    if artifact is None and precision is None:
        return next(_found(bundle, names, device))
    found = candidates(bundle, names, device)
    if artifact is not None:
        found = _of_artifact(bundle, found, backend, artifact)
    if precision is None:
        return found[0]
    fitting = [one for one in found if one.arithmetic == precision]
    if not fitting:
        raise ConfigError(_no_arithmetic(bundle, backend, precision, found, device))
    # A graph made for the arithmetic goes before one that a hint computes in it.
    return min(fitting, key=lambda one: one.artifact is None or one.artifact.precision != precision)


def _of_artifact(bundle: Bundle, found: list[Candidate], backend: str | None, artifact: str) -> list[Candidate]:
    chosen = [one for one in found if one.artifact and one.artifact.id == artifact]
    if not chosen:
        held = ", ".join(one.id for one in bundle.manifest.artifacts)
        opener = f"backend '{backend}'" if backend else "a backend here"
        raise BundleError(f"--artifact got '{artifact}', '{bundle.path}' holds {held}: choose one that {opener} opens")
    return chosen


def _check_format(bundle: Bundle, backend: str) -> None:
    """Raises BundleError if the bundle holds nothing of a backend's formats; whether it runs here does not matter."""
    formats = backends.load(backend).formats
    if not any(artifact.format in formats for artifact in bundle.manifest.artifacts):
        held = ", ".join(artifact.id for artifact in bundle.manifest.artifacts) or "nothing"
        raise BundleError(
            f"bundle '{bundle.path}' has no {'/'.join(formats)} artifact, it holds {held}: "
            "choose another backend, or export the missing one"
        )


def _no_arithmetic(
    bundle: Bundle, backend: str | None, precision: str, found: Sequence[Candidate], device: str | None
) -> str:
    known = ", ".join(dict.fromkeys(one.arithmetic for one in found))
    able = dict.fromkeys(one.backend for one in candidates(bundle, device=device) if one.arithmetic == precision)
    advice = f"use --backend {' or '.join(able)}" if able else f"no backend here computes this bundle in {precision}"
    return f"--precision got {precision}, {backend or 'the backends here'} can compute in {known}: {advice}"


def open_candidate(bundle: Bundle, candidate: Candidate, options: RuntimeOptions = DEFAULT_OPTIONS) -> Opened:
    """Raises ConfigError, BackendUnavailable or BundleError as `choose` and the backend do."""
    check_available(candidate.backend)
    runtime = backends.load(candidate.backend)
    return Opened(candidate, runtime(bundle, candidate.artifact, candidate.arithmetic, options))


def decoder_candidate(bundle: Bundle, opened: Opened | None = None) -> Candidate | None:
    """What decodes latents: the denoiser's backend where it has the artifact, in its arithmetic where it can.

    None without a decoder. Raises BackendUnavailable if nothing here opens it.
    """
    decoder = bundle.manifest.decoder
    if decoder is None:
        return None
    own = [] if opened is None else [opened.name]
    for name in [*own, *(other for other in backends.names() if backends.load(other).probe().available)]:
        device = opened.backend.options.device if opened and name == opened.name else None
        found = list(_of_backend(name, decoder.artifacts, device))
        if found:
            same = [one for one in found if opened and one.arithmetic == opened.arithmetic]
            return (same or found)[0]
    raise BackendUnavailable(_why_none(bundle, decoder.artifacts))
