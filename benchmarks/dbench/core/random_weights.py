"""Networks that nobody trained: their speed is that of trained ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from dtrain import models
from dtrain.checkpoints import ours
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Recipe
from dtrain.published import LATENT

SEED = 0
#: The step that such a checkpoint states.
STEP = 1
#: Standard deviation of vectors that would start at zero, such as biases.
VECTOR_STD = 0.1


def write_random(recipe: Recipe, folder: Path) -> Path:
    """A checkpoint of a recipe's network with random weights, always the same."""
    torch.manual_seed(SEED)
    network = models.build(recipe.model)
    fill_zeros(network)
    channels, side, _ = network.state_shape(recipe.data.image_size)
    if side != recipe.data.image_size and not recipe.data.latent:
        latent = LATENT | {"vae": "none", "scale": (1.0,) * channels, "bias": (0.0,) * channels}
        recipe = replace(recipe, data=replace(recipe.data, latent=dict(latent)))
    state = network.state_dict()
    return ours.save(Checkpoint(recipe, STEP, state, state, {}), folder, keep=1)


@torch.no_grad()
def fill_zeros(network: nn.Module) -> None:
    """Draw the weights that start at zero: with them whole blocks would do nothing, and parity would say nothing.

    Matrices and kernels keep the size of what they are applied to: N(0, 1 / inputs of an output).
    """
    for parameter in network.parameters():
        if not parameter.any():
            is_vector = parameter.ndim < 2
            parameter.normal_(std=VECTOR_STD if is_vector else 1 / math.sqrt(parameter[0].numel()))
