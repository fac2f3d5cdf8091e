"""A bundle, a backend and settings, joined and checked: what draws images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.backends import Backend
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.arrays import Array
from drun.diffusion.guidance import Guided, with_guidance
from drun.diffusion.loop import sample
from drun.diffusion.noise import NoiseSource, PhiloxNoise
from drun.diffusion.table import StepTable
from drun.errors import ConfigError, NotFiniteError
from drun.run import labels
from drun.run.denoiser import BatchedDenoiser
from drun.run.images import CONVERSIONS
from drun.run.noise_file import FileNoise

STATE_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class SamplingSettings:
    """What an image depends on, besides the bundle and the backend."""

    sampler: str
    options: dict[str, Any]
    num_steps: int
    seed: int = 0
    labels: str | None = None
    cfg: float = 1.0
    interval: tuple[float, float] | None = None
    cfg_channels: int | None = None  # None: the bundle's; 0: all
    state_dtype: str = "float32"
    uint8: str = "round"
    noise: str | None = None  # sha256 of the noise file

    def __post_init__(self) -> None:
        if not math.isfinite(self.cfg):
            raise ConfigError(f"--cfg got {self.cfg}, expected a finite weight such as 1.5")
        if self.interval is not None and not all(map(math.isfinite, self.interval)):
            raise ConfigError(f"--interval got {self.interval[0]},{self.interval[1]}, expected two finite times")
        for key, choices in (("state_dtype", STATE_DTYPES), ("uint8", CONVERSIONS)):
            if getattr(self, key) not in choices:
                option = f"--{key.replace('_', '-')}"
                raise ConfigError(f"{option} got '{getattr(self, key)}', expected {' or '.join(choices)}")


@dataclass
class Sampling:
    """A bundle, a backend and settings, ready to draw any of the run's images."""

    bundle: Bundle
    backend: Backend
    settings: SamplingSettings
    artifact: Artifact | None = None  # that the backend opened, if it needs one
    noise_file: FileNoise | None = None
    table: StepTable = field(init=False)

    def __post_init__(self) -> None:
        manifest, settings = self.bundle.manifest, self.settings
        table = samplers.step_table(
            settings.sampler, self.bundle.process, manifest.prediction, settings.num_steps, settings.options,
            manifest.variance,
        )  # fmt: skip
        self.table = with_guidance(table, settings.cfg, settings.interval)
        self.denoiser = BatchedDenoiser(self.backend, self.bundle, self.artifact.batch if self.artifact else (1, 2**31))

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        settings = self.settings
        return labels.choose(
            settings.labels, indices, self.bundle.manifest.classes, settings.seed, guided=settings.cfg != 1
        )

    def draw(self, indices: Sequence[int], on_step: Callable[[int, Array], None], batch: int = 1) -> NDArray[Any]:
        """The final states of the samples `indices`: (N, C, H, W) of the state dtype.

        Threads may share a sampling, and samplings a backend: one draws at a time.

        Args:
            on_step: told each row, first -1, and the states after it.
            batch: fewer samples are filled up to so many, for a library may compute a smaller batch otherwise.

        Raises:
            NotFiniteError: a state that is not finite, at the step where it happened.
        """
        filled = [*indices, *[indices[-1]] * (batch - len(indices))]
        with self.backend.lock:
            return self._draw(filled, lambda row, x: on_step(row, x[: len(indices)]))[: len(indices)]

    def _draw(self, indices: Sequence[int], on_step: Callable[[int, Array], None]) -> NDArray[Any]:
        noise = self._noise(indices)
        x = noise().astype(self.settings.state_dtype)
        on_step(-1, x)

        def guarded(row: int, x: Array) -> None:
            if not math.isfinite(x.sum()):
                raise NotFiniteError(
                    f"the images are not finite after step {row + 1} of {len(self.table.rows)} "
                    f"(t = {self.table.rows[row].t:g}): try --precision fp32, clip_x0=true or another grid"
                )
            on_step(row, x)

        with np.errstate(over="ignore", invalid="ignore"):  # `guarded` says it in a sentence
            return np.asarray(sample(self._guided(indices), x, self.table, noise, guarded))

    def _guided(self, indices: Sequence[int]) -> Guided:
        manifest, settings = self.bundle.manifest, self.settings
        channels = manifest.guidance["channels"] if settings.cfg_channels is None else settings.cfg_channels
        null_label = manifest.classes.null_label if manifest.classes else None
        return Guided(self.denoiser, self.labels(indices), null_label or 0, channels or None)

    def _noise(self, indices: Sequence[int]) -> NoiseSource:
        if self.noise_file is not None:
            return self.noise_file.batch(indices)
        return PhiloxNoise(self.settings.seed, indices, self.bundle.manifest.data.shape)


def open_sampling(
    bundle: Bundle,
    backend: Backend,
    settings: SamplingSettings,
    precision: str | None = None,
    noise_file: Path | None = None,
    num_images: int = 1,
) -> Sampling:
    """Join the parts of a run and check them against each other before anything is computed.

    Args:
        noise_file: of `num_images` samples; see `drun.run.noise_file.FileNoise`.

    Raises:
        ConfigError: settings that do not fit the model.
    """
    artifact = bundle.artifact(backend.formats, precision) if backend.formats else None
    sampling = Sampling(bundle, backend, settings, artifact)
    shape = bundle.manifest.data.shape
    PhiloxNoise(settings.seed, [], shape)
    sampling.labels([0])
    if noise_file is not None:
        num_noises = sampling.table.num_noises
        sampling.noise_file = FileNoise(noise_file, settings.noise, num_images, shape, num_noises)
    return sampling
