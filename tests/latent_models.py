"""Denoisers of latents."""

from dataclasses import replace

from drun.bundle.card import Latent, Shape, StateSpace
from dtrain.published import Denoiser


def with_states(denoiser: Denoiser, data: StateSpace) -> Denoiser:
    return replace(denoiser, card=replace(denoiser.card, data=data, guided_channels=None))


def describe_latents(
    denoiser: Denoiser, name: str, scale: float = 0.18215, bias: float = 0.0, shape: Shape = (4, 8, 8)
) -> Denoiser:
    latent = Latent(vae=name, scale=(scale,) * shape[0], bias=(bias,) * shape[0])
    return with_states(denoiser, StateSpace.of(shape, latent))
