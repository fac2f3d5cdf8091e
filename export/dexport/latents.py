"""The decoder that goes into a latent model's bundle, checked against the model before any work is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drun.console import say
from drun.errors import ConfigError
from dtrain.models import vae
from dtrain.published import LATENT, Denoiser

#: How much a VAE's scale and bias may differ from the checkpoint's, because written decimals are rounded.
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ImageDecoder:
    network: vae.Decoder  # z: (N, C, h, w) -> image: (N, *shape) in about [-1, 1], both float32
    shape: tuple[int, int, int]  # (3, H, W)


def find_decoder(denoiser: Denoiser, choice: str) -> ImageDecoder | None:
    """The decoder of a latent model; None for a pixel model, or where there is none.

    Args:
        choice: `auto` (the VAE that the checkpoint names; if it cannot be loaded, this is said), `none`, or a name or
            folder as `dtrain.models.vae.load` takes it. With `auto` only the VAE of the published checkpoints is
            fetched from the hub: another name is whatever somebody wrote into a file.

    Raises:
        ConfigError: a VAE that cannot be loaded though asked for, that does not fit the model, or for a pixel model.
    """
    latent = denoiser.card.data.latent
    if latent is None:
        if choice not in ("auto", "none"):
            raise ConfigError(f"--vae got '{choice}', but this model draws pixels, not latents: leave it out")
        return None
    if choice == "none":
        return None
    name = latent["vae"] if choice == "auto" else choice
    try:
        loaded = vae.load(name, fetch=choice != "auto" or name == LATENT["vae"])
    except ConfigError as error:
        if choice != "auto":
            raise
        say(f"no decoder, so drun will write latents only; to add it, export again with --vae NAME_OR_DIR ({error})")
        return None
    _check(denoiser, loaded)
    height, width = (side * loaded.downsampling for side in denoiser.card.data.shape[1:])
    return ImageDecoder(vae.Decoder(loaded), (3, height, width))


def _check(denoiser: Denoiser, loaded: vae.Vae) -> None:
    """Raises ConfigError unless the VAE decodes the model's latents, scaled and shifted as the model was trained."""
    latent = denoiser.card.data.latent
    assert latent is not None
    advice = "give the VAE that it was trained with by --vae NAME_OR_DIR, or --vae none for latents only"
    channels = denoiser.card.data.shape[0]
    if loaded.latent_channels != channels:
        got = f"latents of {loaded.latent_channels} channels, the model's have {channels}"
        raise ConfigError(f"the VAE '{loaded.name}' decodes {got}: {advice}")
    for key, own in (("scale", loaded.scale), ("bias", loaded.bias)):
        expected = latent[key]  # type: ignore[literal-required]
        if len(expected) != channels or not np.allclose(own, expected, rtol=0, atol=SCALE_TOLERANCE):
            raise ConfigError(f"the VAE '{loaded.name}' has {key} {own}, the checkpoint {tuple(expected)}: {advice}")
