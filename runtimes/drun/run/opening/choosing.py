"""The candidate that a user or a program asked for, or else the preferred one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from drun import backends
from drun.bundle.reading import Bundle
from drun.console import say, warn
from drun.errors import BackendUnavailable, BundleError, ConfigError, UserError
from drun.run.opening.candidates import Candidate, candidates, each_candidate, of_backend, why_none
from drun.run.opening.opened import Opened
from drun.run.opening.picks import pick_of
from drun.settings import AUTO, RuntimeOptions


def choose(
    bundle: Bundle,
    backend: str | None = None,
    precision: str | None = None,
    artifact: str | None = None,
    device: str | None = None,
) -> Candidate:
    """Choose the candidate to open.

    Args:
        backend: the id of a backend; None: the first of `backends.PREFERENCE` that can open the bundle.
        precision: the arithmetic; None: the backend's default for the artifact.
        artifact: the id of an artifact, such as onnx-fp32; None: the first that fits.
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
    names = () if backend is None else (backend,)
    if artifact is None and precision is None:
        return next(each_candidate(bundle, names, device))
    found = candidates(bundle, names, device)
    if artifact is not None:
        found = _of_artifact(bundle, found, backend, artifact)
    if precision is None:
        return found[0]
    fitting = [one for one in found if one.arithmetic == precision]
    if not fitting:
        raise ConfigError(_no_arithmetic(bundle, backend, precision, found, artifact))
    # A graph of this precision is preferred to one that a hint computes in it.
    return min(fitting, key=lambda one: one.artifact is not None and one.artifact.precision != precision)


def choose_with_device(
    bundle: Bundle,
    backend: str | None,
    precision: str | None,
    artifact: str | None,
    options: RuntimeOptions,
) -> tuple[Candidate, RuntimeOptions]:
    """As `choose`; with the backend AUTO, what `dbench pick` found to be the fastest, if it fits what is asked for.

    Raises as `choose`, and UserError if the picks cannot be read.
    """
    if backend != AUTO:
        return choose(bundle, backend, precision, artifact, options.device), options
    if picked := _picked(bundle, precision, artifact, options.device):
        candidate, device = picked
        return candidate, replace(options, device=device)
    return choose(bundle, None, precision, artifact, options.device), options


def _picked(
    bundle: Bundle, precision: str | None, artifact: str | None, device: str | None
) -> tuple[Candidate, str] | None:
    """The pick and its device. None if there is none, it is not what is asked for, or it cannot run any more."""
    pick = pick_of(bundle)
    if pick is None:
        say("nothing is picked for this network here, so the first backend is taken: dbench pick finds the fastest")
        return None
    asked = ((precision, pick.arithmetic), (artifact, pick.artifact), (device, pick.device))
    if any(wanted not in (None, own) for wanted, own in asked):
        return None
    with suppress(UserError):
        for one in candidates(bundle, (pick.backend,), pick.device):
            if one.artifact and (one.artifact.id, one.arithmetic) == (pick.artifact, pick.arithmetic):
                return one, pick.device
    warn(f"{pick.backend} {pick.artifact} on {pick.device} was the fastest, but is not here any more: pick again")
    return None


def _of_artifact(bundle: Bundle, found: list[Candidate], backend: str | None, artifact: str) -> list[Candidate]:
    chosen = [one for one in found if one.artifact and one.artifact.id == artifact]
    if not chosen:
        ids = ", ".join(one.id for one in bundle.manifest.artifacts)
        opener = f"backend '{backend}'" if backend else "a backend here"
        raise BundleError(f"--artifact got '{artifact}', '{bundle.path}' holds {ids}: choose one that {opener} opens")
    return chosen


def _no_arithmetic(
    bundle: Bundle, backend: str | None, precision: str, found: Sequence[Candidate], artifact: str | None
) -> str:
    known = ", ".join(dict.fromkeys(one.arithmetic for one in found))
    able = [one for one in candidates(bundle) if one.arithmetic == precision]
    if artifact is not None and any(one.backend == found[0].backend for one in able):
        return f"--precision got {precision}, {artifact} can be computed in {known}: leave out --artifact"
    names = " or ".join(dict.fromkeys(one.backend for one in able))
    advice = f"use --backend {names}" if able else _no_graph(precision)
    return f"--precision got {precision}, {backend or 'the backends here'} can compute in {known}: {advice}"


def _no_graph(precision: str) -> str:
    return f"no backend here computes this bundle in {precision}; dexport adds a graph with --precision {precision}"


def decoder_candidate(bundle: Bundle, opened: Opened | None = None) -> Candidate | None:
    """The candidate that decodes latents: the denoiser's backend and arithmetic if possible, else the preferred ones.

    None if the bundle has no decoder. Raises BackendUnavailable if nothing here opens it.
    """
    decoder = bundle.manifest.decoder
    if decoder is None:
        return None
    own = [] if opened is None else [opened.name]
    for name in [*own, *(other for other in backends.names() if backends.load(other).probe().available)]:
        device = opened.backend.options.device if opened and name == opened.name else None
        found = list(of_backend(name, decoder.artifacts, device))
        if found:
            same = [one for one in found if opened and one.arithmetic == opened.arithmetic]
            return (same or found)[0]
    raise BackendUnavailable(why_none(bundle, decoder.artifacts))
