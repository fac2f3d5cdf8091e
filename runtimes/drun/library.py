"""`drun` for programs: `drun.load(path).session().sample(4)`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from drun.bundle.reading import Bundle, open_bundle
from drun.run.opening import choose_with_device, open_proven
from drun.run.session import Session
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions


class LoadedBundle(Bundle):
    """A bundle from which a program opens sessions."""

    def session(
        self,
        backend: str | None = None,
        *,
        precision: str | None = None,
        artifact: str | None = None,
        device: str | None = DEFAULT_OPTIONS.device,
        threads: int = DEFAULT_OPTIONS.threads,
        hint: str | None = DEFAULT_OPTIONS.hint,
        trust: bool = DEFAULT_OPTIONS.trust,
        compile: bool = DEFAULT_OPTIONS.compile,
    ) -> Session:
        """Open the bundle on a backend.

        Args:
            backend: its id, see `drun backends`; None: the first that can open the bundle here; `auto`: the one that
                `dbench pick` found to be the fastest here.
            precision: the arithmetic, such as bf16; None: the artifact's.
            artifact: its id, such as onnx-fp32; None: the first that fits.
            device, threads, hint, trust, compile: see `drun.settings.RuntimeOptions`.

        Raises:
            ConfigError: an unknown backend, or a precision or device that it does not have. BackendUnavailable: it
            cannot run here. BundleError: there is nothing for it to open, or a file is damaged. NotTrusted: the
            artifact can execute code.
        """
        options = RuntimeOptions(threads, device, hint, trust, compile)
        return Session(self, open_proven(self, *choose_with_device(self, backend, precision, artifact, options)))


def load(path: str | Path | None = None) -> LoadedBundle:
    """A bundle in a folder, of a name under bundles/, or (None) the newest one there.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    bundle = open_bundle(None if path is None else Path(path))
    return LoadedBundle(*(getattr(bundle, field.name) for field in fields(bundle)))
