"""Opened bundles for tests: on a backend by its name, or on one that a test has built."""

from __future__ import annotations

from drun.backends import Backend, null
from drun.bundle.reading import Bundle
from drun.run.opening import Candidate, Opened, choose, open_candidate
from drun.settings import RuntimeOptions


def on(backend: str, bundle: Bundle, precision: str | None = None, **options: object) -> Opened:
    """The bundle on the backend of this name."""
    return open_candidate(bundle, choose(bundle, backend, precision), RuntimeOptions(**options))  # type: ignore[arg-type]


def on_null(bundle: Bundle) -> Opened:
    return by(null.Runtime(bundle))


def by(backend: Backend) -> Opened:
    """A backend that needs no artifact, such as a null backend that a test changed."""
    return Opened(Candidate("null", None, "fp32"), backend)


def as_if(backend: Backend, bundle: Bundle, name: str = "ort") -> Opened:
    """A backend as if it were the one of this name, with the bundle's first artifact."""
    return Opened(Candidate(name, bundle.manifest.artifacts[0], "fp32"), backend)
