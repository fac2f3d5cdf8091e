"""What every checkpoint becomes, whoever trained it: a network, and the card of what its weights do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from drun.bundle.card import Card, Latent, Sampler, Shape
from drun.bundle.manifest import TrainedOn
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from dtrain.config.complete import VAE_FACTOR
from dtrain.models import Network
from dtrain.published.settings import whole_number

#: What DiT, SiT and REPA decode with; its scale is also that of the autoencoder that they encode with.
LATENT = Latent(vae="stabilityai/sd-vae-ft-ema", scale=(0.18215,) * 4, bias=(0.0,) * 4)


@dataclass(frozen=True)
class Denoiser:
    """A network in eval mode with all that its weights do not say."""

    network: nn.Module
    config: dict[str, Any]  # for dtrain.models.build
    card: Card
    step: int
    weights: str  # ema | online
    reasons: tuple[str, ...]  # what was recognised, and from what
    settings: dict[str, str] = field(default_factory=dict)  # what was said to `load`
    sha256: str = ""  # of the file, if `load` read it
    trained_on: TrainedOn | None = None  # where the checkpoint says it
    initial_share: float | None = None  # of the initial weights in averaged ones of ours, 0 to 1


def state_shape(
    network: Network, latent: Latent | None, given: Mapping[str, str], usual: int
) -> tuple[Shape, tuple[str, ...]]:
    """(C, H, W) of a state; and a note where the setting image_size asks for what the network cannot be.

    Args:
        latent: what the states are; None: pixels.
        usual: pixels a side where `given` says no image_size.

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
    """As the authors sample: SiT's or REPA's own form of the SDE, or the ancestral chain."""
    if isinstance(process, FlowProcess):
        return Sampler("euler_maruyama", {"form": process.time_convention})
    learned = {"variance": variance} if variance else {}
    return Sampler("ddpm", {**learned, "clip_x0": clip_x0})
