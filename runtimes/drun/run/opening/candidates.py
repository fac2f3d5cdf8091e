"""What could be opened here: every artifact of a bundle x able backend x arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from drun import backends
from drun.bundle.artifact import DECODER_TOLERANCES, PRECISIONS, TOLERANCES, Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, BundleError, ConfigError


@dataclass(frozen=True)
class Candidate:
    """An artifact that a backend could open, and the arithmetic to compute in."""

    backend: str
    artifact: Artifact | None  # None: the backend needs none
    arithmetic: str

    @property
    def name(self) -> str:
        """A name for people, such as `ort onnx-fp32`, or `openvino onnx-fp32 in bf16`."""
        if self.artifact is None:
            return self.backend
        other = "" if self.arithmetic == self.artifact.precision else f" in {self.arithmetic}"
        return f"{self.backend} {self.artifact.id}{other}"

    def tolerance(self, is_decoder: bool = False) -> Tolerance:
        """The largest difference from eager PyTorch that passes."""
        if self.artifact is not None and self.arithmetic == self.artifact.precision:
            return self.artifact.tolerance
        return (DECODER_TOLERANCES if is_decoder else TOLERANCES)[self.arithmetic]


def candidates(bundle: Bundle, names: Sequence[str] = (), device: str | None = None) -> list[Candidate]:
    """Every artifact of the denoiser x able backend x arithmetic, the preferred backends first.

    Args:
        names: names of backends; empty: all that can run here.
        device: the device that they will compute on; None: the first device of each backend.

    Raises:
        ConfigError: an unknown backend. BackendUnavailable: a named one cannot run here, or none can. BundleError: the
        bundle holds nothing that a named one opens.
    """
    return list(each_candidate(bundle, names, device))


def each_candidate(bundle: Bundle, names: Sequence[str], device: str | None) -> Iterator[Candidate]:
    """The candidates one by one, so that a backend that is not needed does not load its library."""
    for name in names:
        check_format(bundle, name)
        check_available(name)
    is_none = True
    for name in names or backends.names():
        if names or _can_run(name, device):
            # A library that is installed but does not load is a reason to fail only where its backend was named.
            with nullcontext() if names else suppress(BackendUnavailable):
                for candidate in of_backend(name, bundle.manifest.artifacts, device):
                    is_none = False
                    yield candidate
    if is_none:
        _check_device(device)
        raise BackendUnavailable(
            _why_not(bundle, names) if names else why_none(bundle, bundle.manifest.artifacts, device)
        )


def _check_device(device: str | None) -> None:
    """Raises ConfigError if no backend has such a device."""
    known = dict.fromkeys(one for name in backends.names() for one in backends.load(name).devices)
    if device not in (None, *known):
        raise ConfigError(f"--device or --unit got '{device}', expected one of {', '.join(known)}")


def _can_run(name: str, device: str | None) -> bool:
    runtime = backends.load(name)
    return device in (None, *runtime.devices) and runtime.probe().available


def of_backend(name: str, artifacts: Sequence[Artifact], device: str | None) -> Iterator[Candidate]:
    """The candidates of one backend: the widest precision first, then two graphs, which compute less in each step.

    Then comes the best format, and of each artifact the default arithmetic first.
    """
    runtime = backends.load(name)

    def place(artifact: Artifact) -> tuple[int, bool, int]:
        # A graph that loses something is never chosen where nobody asked for it.
        precision, form = PRECISIONS.index(artifact.precision), runtime.formats.index(artifact.format)
        return precision, artifact.conditioning is None, form

    for artifact in sorted((one for one in artifacts if one.format in runtime.formats), key=place):
        for arithmetic in runtime.arithmetics(artifact, device):
            yield Candidate(name, artifact, arithmetic)


def why_none(bundle: Bundle, artifacts: Sequence[Artifact], device: str | None = None) -> str:
    """Why no backend opens these artifacts, with the install line of the preferred backend that could open one.

    device: the one that they should be opened on; None: any.
    """
    for name in backends.names():
        runtime = backends.load(name)
        if device not in (None, *runtime.devices):
            continue
        probe = runtime.probe()
        if not probe.available and any(artifact.format in runtime.formats for artifact in artifacts):
            return f"no backend here can open '{bundle.path}': '{name}' is not available, {probe.why_not}"
    ids = ", ".join(artifact.id for artifact in artifacts) or "nothing"
    where = f" on {device}" if device else ""
    holds = f"what '{bundle.path}' holds{where}, which is {ids}"
    return f"no backend opens {holds}: use a newer drun, or export another target"


def _why_not(bundle: Bundle, names: Sequence[str]) -> str:
    """Why these backends, which can run here, open none of the artifacts of their formats."""
    ids = ", ".join(artifact.id for artifact in bundle.manifest.artifacts)
    return f"{' and '.join(names)} can compute nothing of '{bundle.path}' here, which holds {ids}: use another backend"


def unavailable(bundle: Bundle) -> dict[str, str]:
    """The backends that could open something of the bundle but cannot run here, with the reasons."""
    formats = {artifact.format for artifact in bundle.manifest.artifacts}
    probes = {
        name: backends.load(name).probe() for name in backends.names() if formats & {*backends.load(name).formats}
    }
    return {name: probe.why_not for name, probe in probes.items() if not probe.available}


def check_available(name: str) -> None:
    """Raises BackendUnavailable, with the install line, if a backend cannot run here; ConfigError if there is none."""
    probe = backends.load(name).probe()
    if not probe.available:
        raise BackendUnavailable(f"backend '{name}' is not available: {probe.why_not}")


def check_format(bundle: Bundle, backend: str) -> None:
    """Raises BundleError if the bundle holds none of a backend's formats, and ConfigError if the backend has none."""
    formats = backends.load(backend).formats
    if not formats:
        raise ConfigError(f"backend '{backend}' opens no artifact of a bundle, so there is nothing to choose from")
    if not any(artifact.format in formats for artifact in bundle.manifest.artifacts):
        ids = ", ".join(artifact.id for artifact in bundle.manifest.artifacts) or "nothing"
        raise BundleError(
            f"bundle '{bundle.path}' has no {'/'.join(formats)} artifact, it holds {ids}: "
            "choose another backend, or export the missing one"
        )
