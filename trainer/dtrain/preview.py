"""Pictures of what the averaged network draws now, through the very loop that deployment uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from drun import images
from drun.loop import sample
from drun.noise import PhiloxNoise
from drun.process import DiscreteProcess
from drun.samplers import step_table


@torch.no_grad()
def write_preview(
    path: Path,
    network: nn.Module,
    process: DiscreteProcess,
    prediction: str,
    shape: tuple[int, int, int],
    num_images: int,
    num_steps: int,
) -> None:
    """Draw the samples 0..num_images-1 of seed 0 by DDIM and write them as one grid.

    shape: (C, H, W). The network is called on the device of its parameters, in float32.
    """
    device = next(network.parameters()).device
    noise = PhiloxNoise(0, range(num_images), shape)

    def denoise(x: Tensor, t: float, w: float) -> Tensor:
        output: Tensor = network(x, torch.full((len(x),), t, device=device))
        return output

    table = step_table("ddim", process, prediction, min(num_steps, process.num_timesteps))
    x = torch.from_numpy(noise()).to(device)
    final = sample(denoise, x, table, lambda: torch.from_numpy(noise()).to(device))
    images.write_png(path, images.grid(images.to_uint8(np.asarray(final.cpu()))))
