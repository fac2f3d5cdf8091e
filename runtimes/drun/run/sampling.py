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
from drun.bundle.reading import Bundle
from drun.diffusion import samplers
from drun.diffusion.arrays import Array
from drun.diffusion.guidance import Guided, with_guidance
from drun.diffusion.loop import sample
from drun.diffusion.noise import FileNoise, NoiseSource, PhiloxNoise
from drun.diffusion.table import StepTable
from drun.errors import ConfigError, NotFiniteError
from drun.files import sha256
from drun.run import labels
from drun.run.denoiser import Denoiser


@dataclass(frozen=True)
class Settings:
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


@dataclass
class Sampling:
    """A bundle, a backend and settings, ready to draw any of the run's images."""

    bundle: Bundle
    backend: Backend
    settings: Settings
    max_batch: tuple[int, int] = (1, 2**31)
    noise_file: FileNoise | None = None
    table: StepTable = field(init=False)

    def __post_init__(self) -> None:
        manifest, settings = self.bundle.manifest, self.settings
        table = samplers.step_table(
            settings.sampler, self.bundle.process, manifest.prediction, settings.num_steps, settings.options,
            manifest.variance,
        )  # fmt: skip
        self.table = with_guidance(table, settings.cfg, settings.interval)
        self.denoiser = Denoiser(self.backend, self.bundle, self.max_batch)

    def labels(self, indices: Sequence[int]) -> NDArray[np.int64] | None:
        settings = self.settings
        return labels.choose(
            settings.labels, indices, self.bundle.manifest.classes, settings.seed, guided=settings.cfg != 1
        )

    def draw(self, indices: Sequence[int], on_step: Callable[[int, Array], None]) -> NDArray[Any]:
        """The final states of the samples `indices`: (N, C, H, W) of the state dtype.

        Raises:
            NotFiniteError: a state that is not finite, at the step where it happened.
        """
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
    settings: Settings,
    precision: str | None = None,
    noise_file: Path | None = None,
    num_images: int = 1,
) -> Sampling:
    """Join the parts of a run and check them against each other before anything is computed.

    Args:
        noise_file: of `num_images` samples; see `drun.diffusion.noise.FileNoise`.

    Raises:
        ConfigError: settings that do not fit the model.
    """
    batch = bundle.artifact(backend.formats, precision).batch if backend.formats else (1, 2**31)
    sampling = Sampling(bundle, backend, settings, batch)
    sampling.labels([0])
    shape = bundle.manifest.data.shape
    PhiloxNoise(settings.seed, [], shape)
    if noise_file is not None:
        sampling.noise_file = FileNoise(noise_file, num_images, shape, sampling.table.num_noises)
    return sampling


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
