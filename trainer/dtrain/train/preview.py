"""Pictures that the network draws now, with online beside averaged weights, through the loop that deployment uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from drun.bundle.average import NOTICEABLE_SHARE, percent
from drun.bundle.card import Card, Shape, StateSpace
from drun.console import warn
from drun.diffusion import process as processes
from drun.diffusion.arrays import State
from drun.errors import NotFiniteError
from drun.run import images
from drun.run.images import UInt8
from drun.run.sampling import Sampling
from drun.settings import SamplingSettings
from dtrain import models
from dtrain.averages import initial_share
from dtrain.config import Recipe
from dtrain.eager import EagerNetwork
from dtrain.models import Network

#: Latents have about unit variance. To show them as false colours they are divided by this.
LATENT_RANGE = 3.0
SAMPLER = "ddim"

Weights = Mapping[str, Tensor]


def draw_preview(
    recipe: Recipe,
    step: int,
    online: Weights,
    average: Weights,
    prediction: str,
    shape: Shape,
    device: torch.device,
) -> UInt8:
    """A grid of samples for each set of weights, from the same noise: the samples 0, 1, ... of seed 0 by DDIM.

    Args:
        step: training steps so far.
        online: the weights in training; average: their average.
        shape: (C, H, W) of a state. Of latents the first three channels are shown as false colours.

    Returns:
        (H, W, C) uint8, online on the left; black where the states are not finite, with a warning.
    """
    network = models.build(recipe.model).to(device).eval()
    sampling = _sampling(network, recipe, prediction, shape)
    names, grids = _class_names(network, recipe), {}
    for name, state in (("online", online), (_average_name(recipe, step), average)):
        network.load_state_dict(state)
        final = _draw(sampling, recipe.train.num_previews, f"step {step:,}, {name}")
        shown = final[:, :3] / LATENT_RANGE if recipe.data.latent else final
        grids[name] = images.grid(images.to_uint8(shown), names=names)
    return images.beside(grids)


def _average_name(recipe: Recipe, step: int) -> str:
    share = initial_share(recipe.ema, step)
    return "EMA" if share <= NOTICEABLE_SHARE else f"EMA, {percent(share)} initial weights"


def _class_names(network: Network, recipe: Recipe) -> list[str]:
    """The names of the classes in turn, if the data has names and the network knows the classes."""
    names = recipe.data.class_names
    if not names or network.classes is None:
        return []
    labels = (i % network.classes.count for i in range(recipe.train.num_previews))
    return [names[label] if label < len(names) else str(label) for label in labels]


def _sampling(network: Network, recipe: Recipe, prediction: str, shape: Shape) -> Sampling:
    process = processes.from_dict(recipe.process)
    card = Card(process, prediction, StateSpace.of(shape), network.classes, network.variance)
    steps = process.most_steps(recipe.train.preview_steps)
    settings = SamplingSettings(SAMPLER, {"clip_x0": not recipe.data.latent}, steps)
    return Sampling(card, EagerNetwork(network), settings)


def _draw(sampling: Sampling, num_images: int, what: str) -> State:
    """The final states, (N, C, H, W) float32; the network's classes are drawn in turn."""
    try:
        return sampling.draw(range(num_images))
    except NotFiniteError:
        warn(f"{what}: the preview is black, for the network draws what is not finite")
        return np.full((num_images, *sampling.card.data.shape), -1, np.float32)
