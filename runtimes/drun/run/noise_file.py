"""Noise given by the user, so that any other implementation can be compared on the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drun.diffusion.noise import NoiseSource
from drun.errors import ConfigError
from drun.files import sha256
from drun.foreign import read_npz


class FileNoise:
    """The noise of a run's samples, read from a file.

    Args:
        path: `.npz` with `x`: (N, C, H, W) and, for samplers that draw noise, `z`: (R, N, C, H, W), R noisy rows.
        digest: its sha256, as `noise_digest` gave it; None: not compared.
        num_images, shape, num_noises: the run's N, (C, H, W) and R.

    Raises:
        ConfigError: arrays of another shape, not of finite numbers, or a file that was changed. DataError: it cannot be
        read.
    """

    def __init__(
        self, path: Path, digest: str | None, num_images: int, shape: tuple[int, ...], num_noises: int
    ) -> None:
        with path.open("rb") as file:
            if digest is not None and sha256(file) != digest:
                raise ConfigError(f"noise file '{path}' was changed while it was opened: run the command again")
            arrays = read_npz(path, file)
        expected = {"x": (num_images, *shape)} | ({"z": (num_noises, num_images, *shape)} if num_noises else {})
        for name, wanted in expected.items():
            got = arrays[name].shape if name in arrays else "none"
            if got != wanted:
                raise ConfigError(f"noise file '{path}': array '{name}' has shape {got}, expected {wanted}")
            if arrays[name].dtype.kind not in "iuf" or not np.isfinite(arrays[name]).all():
                raise ConfigError(
                    f"noise file '{path}': array '{name}' holds numbers that are not finite and real: write it again"
                )
        self.arrays = {name: arrays[name].astype(np.float32) for name in expected}

    def batch(self, indices: Sequence[int]) -> NoiseSource:
        """The source for the samples `indices`."""
        rows = list(indices)
        draws = iter([self.arrays["x"][rows], *(z[rows] for z in self.arrays.get("z", []))])
        return lambda: next(draws)


def noise_digest(path: Path | None) -> str | None:
    """sha256 of the noise file, or None.

    Raises:
        ConfigError: there is no such file.
    """
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"no such noise file: '{path}'")
    return sha256(path)
