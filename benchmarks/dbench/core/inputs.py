"""What every candidate of a measurement is called with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drun import backends
from drun.bundle.reading import Bundle
from drun.diffusion.noise import PhiloxNoise
from drun.errors import BackendUnavailable, ConfigError

Inputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64] | None]


def example(bundle: Bundle, batch: int) -> Inputs:
    """x: (batch, C, H, W) pure noise, t: (batch,) the time of noise, y: (batch,) class 0, or None without classes."""
    manifest = bundle.manifest
    x = PhiloxNoise(0, range(batch), manifest.data.shape)()
    t = np.full(batch, bundle.process.noise_end, np.float32)
    return x, t, np.zeros(batch, np.int64) if manifest.classes else None


def able_backends(bundle: Bundle) -> list[str]:
    """The backends that can run here and open one of the bundle's artifacts.

    Raises:
        BackendUnavailable: there are none.
    """
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    runtimes = {name: backends.load(name) for name in backends.names()}
    able = [name for name, runtime in runtimes.items() if held & set(runtime.formats) and runtime.probe().available]
    if not able:
        raise BackendUnavailable(f"no backend here can open '{bundle.path}': see 'drun backends'")
    return able


def check_batch(bundle: Bundle, backend: str, batch: int) -> None:
    """Raises ConfigError if the artifact that `backend` opens has no such batch."""
    formats = backends.load(backend).formats
    if not formats:
        return
    low, high = bundle.artifact(formats).batch
    if not low <= batch <= high:
        raise ConfigError(f"--batch got {batch}, the artifact of '{backend}' takes {low} to {high}")
