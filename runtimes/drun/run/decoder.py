"""From the sampler's final state to 8-bit pixels; latents pass through the bundle's decoder on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, reason
from drun.run.images import UInt8, to_uint8

#: Latents decoded at a time: a decoder's activations are far larger than the denoiser's.
DECODED_AT_ONCE = 2


class DecoderSession:
    """The decoder of a latent model, by ONNX Runtime.

    Args:
        bundle: one with a decoder.
        options: as of a backend.
        batch: of the run; latents are decoded so many at a time, or two.

    Raises:
        BackendUnavailable: ONNX Runtime is missing or cannot open it. BundleError: it is damaged.
    """

    def __init__(self, bundle: Bundle, options: Mapping[str, Any] = {}, batch: int = DECODED_AT_ONCE) -> None:
        from drun.backends.ort import open_session

        assert bundle.manifest.decoder is not None
        artifact = bundle.manifest.decoder.artifacts[0]
        self.size = min(max(batch, artifact.batch[0]), DECODED_AT_ONCE, artifact.batch[1])
        self.session = open_session(bundle, artifact, options)

    def __call__(self, z: NDArray[Any]) -> NDArray[np.float32]:
        """z: (N, C, h, w) float -> (N, 3, H, W) float32 in about [-1, 1]; an image depends on no other."""
        parts = [self._decode(z[start : start + self.size]) for start in range(0, len(z), self.size)]
        return np.concatenate(parts)

    def _decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        filled = np.zeros((self.size, *z.shape[1:]), np.float32)
        filled[: len(z)] = z
        try:
            return np.asarray(self.session.run(["image"], {"z": filled})[0])[: len(z)]
        except Exception as error:
            raise BackendUnavailable(f"ONNX Runtime failed to decode {self.size} latents: {reason(error)}") from error


class Pixels:
    """States to pixels.

    Args:
        bundle: of a pixel model, or of a latent one with a decoder.
        conversion: see `drun.run.images.to_uint8`.
        options, batch: see `DecoderSession`.
    """

    def __init__(
        self, bundle: Bundle, conversion: str, options: Mapping[str, Any] = {}, batch: int = DECODED_AT_ONCE
    ) -> None:
        manifest = bundle.manifest
        self.conversion = conversion
        self.decoder = DecoderSession(bundle, options, batch) if manifest.decoder else None
        self.shape = manifest.decoder.shape if manifest.decoder else manifest.data.shape

    def __call__(self, x: NDArray[Any]) -> UInt8:
        """x: (N, C, H, W) float -> (N, H, W, C) uint8."""
        return to_uint8(x if self.decoder is None else self.decoder(x), self.conversion)


def has_pixels(bundle: Bundle) -> bool:
    """Whether images can be made of this bundle's states: a latent model needs a decoder."""
    return bundle.manifest.data.space == "pixel" or bundle.manifest.decoder is not None
