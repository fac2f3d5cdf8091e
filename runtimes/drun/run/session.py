"""A bundle that a backend has opened. Commands and programs draw images with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drun.bundle.artifact import MAX_BATCH
from drun.bundle.reading import Bundle
from drun.errors import ConfigError
from drun.run.beside import Beside
from drun.run.decoder import Pixels, has_pixels
from drun.run.images import to_pil, to_uint8
from drun.run.labels import as_spec
from drun.run.noise_file import FileNoise
from drun.run.opening import Opened
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import DEFAULT_BATCH, DEFAULT_STEPS, NUM_SAMPLES, SamplingSettings, check_whole

#: The forms of images that `Session.sample` can give.
OUTPUTS = ("uint8", "float", "pil")


class Session:
    """An opened bundle.

    Threads may share it: one thread draws at a time, and each gets the images that it would get alone.

    Args:
        bundle: the result of `drun.load` or `drun.bundle.reading.read`.
        opened: see `drun.run.opening`; the session closes it.
    """

    def __init__(self, bundle: Bundle, opened: Opened) -> None:
        self.bundle, self.opened = bundle, opened
        self._pixels: Pixels | None = None

    def sampling(self, settings: SamplingSettings, noise: Path | None = None, num_images: int = 1) -> Sampling:
        """The settings joined with this model, checked before anything is computed.

        Args:
            noise: a file of `num_images` samples; see `drun.run.noise_file.FileNoise`.

        Raises:
            ConfigError: settings that do not fit the model.
        """
        card = self.bundle.manifest.card
        sampling = Sampling(card, self.opened, settings)
        if noise is not None:
            num_noises = sampling.table.num_noises
            sampling.noise_file = FileNoise(noise, settings.noise, num_images, card.data.shape, num_noises)
        return sampling

    def pixels(self) -> Pixels:
        """A function from states to pixels. Raises ConfigError if the bundle has no decoder."""
        if not has_pixels(self.bundle):
            raise ConfigError(
                f"bundle '{self.bundle.path}' has no decoder, so it draws latents: export it again with --vae"
            )
        with self.opened.alone():  # one for all threads, and none after `close`
            if self._pixels is None:
                self._pixels = Pixels(self.bundle, self.opened)
            return self._pixels

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = SamplingSettings.seed,
        first: int = 0,
        labels: Sequence[int | str] | int | str | None = None,
        steps: int = DEFAULT_STEPS,
        sampler: str | None = None,
        options: Mapping[str, Any] = {},
        cfg: float = SamplingSettings.cfg,
        interval: tuple[float, float] | None = None,
        batch: int = DEFAULT_BATCH,
        output: Literal["uint8", "float", "pil"] = "uint8",
    ) -> Any:
        """Draw the samples `first`, ..., `first + n - 1` of a seed: the images that the command writes.

        Args:
            labels: classes by number or name, repeated in turn, or `balanced` (the default) or `random`.
            steps: of the sampler; at most T for a model of T timesteps.
            sampler, options: see `drun samplers`; by default those of the bundle.
            cfg: classifier-free guidance weight; 1 is off.
            interval: the guided part of the model's time, both ends included.
            batch: images computed at a time, fewer where the artifact takes fewer.

        Returns:
            `uint8`: (n, H, W, C) in 0..255; `float`: (n, H, W, C) float32 in about [-1, 1]; `pil`: a list of n images.

        Raises:
            ConfigError: settings that do not fit the model. NotFiniteError: the network gave NaN or infinity.
        """
        _check_numbers(n, batch, seed, first, steps)
        if output not in OUTPUTS:
            raise ConfigError(f"output got '{output}', expected {' or '.join(OUTPUTS)}")
        name, chosen = resolve_sampler(self.bundle.manifest.card, sampler, options)
        spec = as_spec(labels, self.bundle.manifest.classes)
        settings = SamplingSettings(name, chosen, steps, seed=seed, labels=spec, cfg=cfg, interval=interval)
        sampling = self.sampling(settings)
        size = min(batch, n, self.opened.largest_batch(sampling.table))
        indices = range(first, first + n)
        images = self._floats(sampling, [indices[start : start + size] for start in range(0, n, size)], size)
        if output == "float":
            return np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float32)
        pixels = to_uint8(images)
        return [to_pil(image) for image in pixels] if output == "pil" else pixels

    def _floats(self, sampling: Sampling, parts: Sequence[range], size: int) -> NDArray[Any]:
        """The pixels of all parts, (N, C, H, W); one part is decoded while the next one is drawn."""
        to_float = self.pixels()
        if len(parts) == 1:  # there is no next one
            return to_float(sampling.draw(parts[0], batch=size), size)
        with Beside() as beside:
            decoded = [beside.do(to_float, sampling.draw(part, batch=size), size) for part in parts]
        return np.concatenate([part.result() for part in decoded])

    def close(self) -> None:
        """Free the runtime's memory, after the batch that another thread draws; further samples are refused."""
        self.opened.close()
        if self._pixels is not None:
            self._pixels.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()


def _check_numbers(n: Any, batch: Any, seed: Any, first: Any, steps: Any) -> None:
    """Raises ConfigError where one is not a whole number, or beyond what can be computed."""
    for name, value, low, high in (
        ("n", n, 1, NUM_SAMPLES),
        ("batch", batch, 1, MAX_BATCH),
        ("seed", seed, 0, 2**64 - 1),
        ("first", first, 0, NUM_SAMPLES),
        ("steps", steps, 1, NUM_SAMPLES),
    ):
        check_whole(name, value, low, high)
