"""A loaded checkpoint of any origin: a network, and its model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from drun.bundle.card import Card, Latent, Sampler, Shape
from drun.bundle.hashes import Stamp
from drun.bundle.manifest import TrainedOn
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from dtrain.config.complete import VAE_FACTOR
from dtrain.models import Network
from dtrain.published.settings import whole_number

#: The VAE that DiT, SiT and REPA decode with. The autoencoder that they encode with has the same scale.
LATENT = Latent(vae="stabilityai/sd-vae-ft-ema", scale=(0.18215,) * 4, bias=(0.0,) * 4)


@dataclass(frozen=True)
class Denoiser:
    """A network in eval mode, with everything that its weights do not tell."""

    network: nn.Module
    config: dict[str, Any]  # for dtrain.models.build
    card: Card
    step: int
    weights: str  # ema | online
    reasons: tuple[str, ...]  # the recognised family, and the evidence
    settings: dict[str, str] = field(default_factory=dict)  # the settings that `load` was given
    sha256: str = ""  # the sha256 of the file, if `load` read it
    stamp: Stamp | None = None  # tells whether that file was written to since; the weights may be memory maps of it
    trained_on: TrainedOn | None = None  # the training step, if the checkpoint states it
    initial_share: float | None = None  # the share of the initial weights in our averaged weights, 0 to 1

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def state_shape(
    network: Network, latent: Latent | None, given: Mapping[str, str], usual: int
) -> tuple[Shape, tuple[str, ...]]:
    """(C, H, W) of a state, and a note if the setting image_size asks for a size that the network does not have.

    Args:
        latent: the space of the states; None: pixels.
        usual: pixels a side if `given` has no image_size.

    Raises:
        ConfigError: a wrong image_size, or one that the network does not take.
    """
    factor = VAE_FACTOR if latent else 1
    size = whole_number(given, "image_size", usual)
    shape = network.state_shape(max(size // factor, 1))
    pixels = shape[1] * factor
    ignored = "image_size" in given and size != pixels
    return shape, (f"image_size={size} ignored: this network is of {pixels} pixels",) if ignored else ()


def default_sampler(process: Process, variance: str | None, clip_x0: bool) -> Sampler:
    """The sampler of the authors: SiT's or REPA's form of the SDE, or the ancestral chain."""
    if isinstance(process, FlowProcess):
        return Sampler("euler_maruyama", {"form": process.time_convention})
    learned = {"variance": variance} if variance else {}
    return Sampler("ddpm", {**learned, "clip_x0": clip_x0})
