"""Turns the sampler's final states into pixels; the bundle's decoder decodes latents."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.reading import Bundle
from drun.run.opening import Candidate, Opened, decoder_candidate, open_candidate
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions

#: How many latents are decoded at a time: a decoder's activations are far larger than the denoiser's.
DECODED_AT_ONCE = 2


class DecoderSession:
    """The decoder of a latent model, on the denoiser's backend where it has the artifact.

    Args:
        bundle: one with a decoder.
        opened: the denoiser.

    Raises:
        BackendUnavailable: nothing here can open it. BundleError: it is damaged.
    """

    candidate: Candidate

    def __init__(self, bundle: Bundle, opened: Opened | None = None) -> None:
        found = decoder_candidate(bundle, opened)
        assert found is not None
        assert found.artifact is not None
        self.candidate = found
        self.low, self.high = found.artifact.batch
        self.opened = open_candidate(bundle, found, _options(opened, found))

    def __call__(self, z: NDArray[Any], batch: int = DECODED_AT_ONCE) -> NDArray[np.float32]:
        """Decode latents, of which the last ones are filled up, so that an image depends on no other.

        Args:
            z: (N, C, h, w) float.
            batch: images of the run computed at a time; two latents at most are decoded at a time.

        Returns:
            (N, 3, H, W) float32 in about [-1, 1].
        """
        size = min(max(min(batch, DECODED_AT_ONCE), self.low), self.high)
        filled = np.zeros((size, *z.shape[1:]), np.float32)
        with self.opened.alone():
            parts = [self._decode(z[start : start + size], filled) for start in range(0, len(z), size)]
        return np.concatenate(parts)

    def _decode(self, z: NDArray[Any], filled: NDArray[np.float32]) -> NDArray[np.float32]:
        filled[: len(z)] = z
        filled[len(z) :] = 0
        return self.opened.backend.predict(filled)[: len(z)].copy()

    def close(self) -> None:
        self.opened.close()

    def __enter__(self) -> DecoderSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()


def _options(opened: Opened | None, decoder: Candidate) -> RuntimeOptions:
    """The options of the denoiser; of those, another backend follows the threads and the trust."""
    if opened is None:
        return DEFAULT_OPTIONS
    options = opened.backend.options
    return options if opened.name == decoder.backend else RuntimeOptions(options.threads, trust=options.trust)


class Pixels:
    """Turns states into pixels in about [-1, 1].

    Args:
        bundle: a bundle of a pixel model, or of a latent model with a decoder.
        opened: see `DecoderSession`.
    """

    def __init__(self, bundle: Bundle, opened: Opened) -> None:
        manifest = bundle.manifest
        self.decoder = DecoderSession(bundle, opened) if manifest.decoder else None
        self.shape = manifest.decoder.shape if manifest.decoder else manifest.data.shape

    def __call__(self, x: NDArray[Any], batch: int = DECODED_AT_ONCE) -> NDArray[Any]:
        """x: (N, C, H, W) float, states -> (N, C, H, W) float, pixels. batch: see `DecoderSession`."""
        return x if self.decoder is None else self.decoder(x, batch)

    def close(self) -> None:
        if self.decoder is not None:
            self.decoder.close()


def has_pixels(bundle: Bundle) -> bool:
    """Whether images can be made of this bundle's states: a latent model needs a decoder."""
    return bundle.manifest.data.space == "pixel" or bundle.manifest.decoder is not None
