"""Pictures of what the network draws now, online beside averaged, through the very loop that deployment uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from drun.bundle.average import NOTICEABLE_SHARE, percent
from drun.diffusion import process as processes
from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.samplers import step_table
from drun.run import images
from drun.run.images import UInt8
from dtrain import models
from dtrain.averages import initial_share
from dtrain.config import Recipe

#: Latents have about unit variance; shown as false colours they are divided by this.
LATENT_RANGE = 3.0

State = Mapping[str, Tensor]


def draw_preview(
    recipe: Recipe, step: int, online: State, average: State, prediction: str, shape: tuple[int, int, int],
    device: torch.device,
) -> UInt8:  # fmt: skip
    """What both sets of weights draw from the same noise: the samples 0, 1, ... of seed 0 by DDIM, a grid each.

    Args:
        step: training steps so far.
        online: the weights as they are trained; average: those that follow them.
        shape: (C, H, W) of a state. Of latents the first three channels are shown as false colours.

    Returns:
        (H, W, C) uint8, online on the left.
    """
    network = models.build(recipe.model).to(device).eval()
    grids = {}
    for name, state in (("online", online), (_average_name(recipe, step), average)):
        network.load_state_dict(state)
        final = _draw(network, recipe, prediction, shape)
        shown = final[:, :3] / LATENT_RANGE if recipe.data.latent else final
        grids[name] = images.grid(images.to_uint8(shown), names=_class_names(recipe, len(shown)))
    return images.beside(grids)


def _average_name(recipe: Recipe, step: int) -> str:
    share = initial_share(recipe.ema, step)
    return "EMA" if share <= NOTICEABLE_SHARE else f"EMA, {percent(share)} initial weights"


def _class_names(recipe: Recipe, num_images: int) -> list[str]:
    """Of the classes in turn, where the data names them and the network knows them."""
    names, num_classes = recipe.data.class_names, int(recipe.model.get("num_classes", 0))
    if not names or not num_classes:
        return []
    labels = (i % num_classes for i in range(num_images))
    return [names[label] if label < len(names) else str(label) for label in labels]


@torch.no_grad()
def _draw(network: nn.Module, recipe: Recipe, prediction: str, shape: tuple[int, int, int]) -> np.ndarray:
    """The final states, (N, C, H, W) float; of the network's classes each is drawn in turn."""
    process, device = processes.from_dict(recipe.process), next(network.parameters()).device
    num_images, num_steps = recipe.train.num_previews, recipe.train.preview_steps
    noise = PhiloxNoise(0, range(num_images), shape)
    num_classes = int(network.config.get("num_classes", 0))  # type: ignore[union-attr, operator]
    labels = torch.arange(num_images, device=device) % num_classes if num_classes else None

    def denoise(x: Tensor, t: float, w: float) -> Tensor:
        time = torch.full((len(x),), t, device=device)
        output: Tensor = network(x, time) if labels is None else network(x, time, labels)
        return output

    steps = min(num_steps, process.num_timesteps) if isinstance(process, DiscreteProcess) else num_steps
    table = step_table("ddim", process, prediction, steps, {"clip_x0": not recipe.data.latent})
    x = torch.from_numpy(noise()).to(device)
    return np.asarray(sample(denoise, x, table, lambda: torch.from_numpy(noise()).to(device)).cpu())
