"""The decoder: an image depends on no other latent, however many are decoded at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoders import IMAGE, STATE, decoded, with_decoder
from openings import on, on_null

from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.run.decoder import DecoderSession, Pixels, has_pixels
from drun.settings import RuntimeOptions


@pytest.mark.parametrize(
    ("allowed", "batch", "size"),
    [((1, 8), 5, 2), ((1, 8), 1, 1), ((1, 1), 5, 1), ((4, 4), 1, 4), ((3, 8), 9, 3)],
)
def test_so_many_are_decoded_at_a_time(latents: Path, allowed: tuple[int, int], batch: int, size: int) -> None:
    """Two at most, unless the graph takes no fewer; what is missing is filled up."""
    bundle = with_decoder(latents, allowed)
    z = np.random.default_rng(0).standard_normal((5, *STATE)).astype(np.float32)
    sizes: list[int] = []
    with on("ort", bundle) as opened, DecoderSession(bundle, opened) as decoder:
        predict = decoder.opened.backend.predict
        decoder.opened.backend.predict = lambda z: (sizes.append(len(z)), predict(z))[1]  # type: ignore[method-assign]
        whole = decoder(z, batch)
        assert set(sizes) == {size}
        assert (whole.shape, whole.dtype) == ((5, *IMAGE), np.float32)
        np.testing.assert_allclose(whole, decoded(z), rtol=1e-6)
        kept = whole.copy()
        np.testing.assert_allclose(decoder(z[3:4]), decoded(z[3:4]), rtol=1e-6)
        np.testing.assert_array_equal(whole, kept)  # not the runtime's own memory


def test_it_has_the_denoisers_options_but_a_device_of_its_own_backend(latents: Path) -> None:
    """Null has no decoder, so ONNX Runtime decodes, whatever device null was asked for."""
    bundle = with_decoder(latents, (1, 8))
    with on("ort", bundle, threads=1, device="cpu") as opened, DecoderSession(bundle, opened) as decoder:
        assert decoder.opened.backend.options == RuntimeOptions(threads=1, device="cpu")
    denoiser = on_null(bundle)
    denoiser.backend.options = RuntimeOptions(threads=1, device="moon")
    with DecoderSession(bundle, denoiser) as decoder:
        assert decoder.candidate.backend == "ort"
        assert decoder.opened.backend.options == RuntimeOptions(threads=1, device=None)


def test_pixels_of_either_space(bundle: Bundle, latents: Path) -> None:
    states = np.ones((2, *STATE), np.float32)
    pixels = Pixels(bundle, on_null(bundle))
    assert pixels.shape == STATE
    assert pixels(states) is states
    latent = with_decoder(latents, (1, 8))
    pixels = Pixels(latent, on_null(latent))
    assert pixels.shape == IMAGE
    np.testing.assert_allclose(pixels(states), decoded(states), rtol=1e-6)
    pixels.close()
    assert [has_pixels(one) for one in (bundle, latent, bundles.read(latents))] == [True, True, False]
