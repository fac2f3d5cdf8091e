"""Pictures of what the averaged network draws now, through the very loop that deployment uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from drun.diffusion.loop import sample
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.samplers import step_table
from drun.run import images

#: Latents have about unit variance; shown as false colours they are divided by this.
LATENT_RANGE = 3.0


@torch.no_grad()
def write_preview(
    path: Path,
    network: nn.Module,
    process: Process,
    prediction: str,
    shape: tuple[int, int, int],
    num_images: int,
    num_steps: int,
    latent: bool = False,
) -> None:
    """Draw the samples 0..num_images-1 of seed 0 by DDIM and write them as one grid.

    Args:
        network: in eval mode, called on the device of its parameters in float32; of its classes each is drawn in turn.
        shape: (C, H, W).
        latent: show the first three channels as false colours.
    """
    device = next(network.parameters()).device
    noise = PhiloxNoise(0, range(num_images), shape)
    num_classes = int(network.config.get("num_classes", 0))  # type: ignore[union-attr, operator]
    labels = torch.arange(num_images, device=device) % num_classes if num_classes else None

    def denoise(x: Tensor, t: float, w: float) -> Tensor:
        time = torch.full((len(x),), t, device=device)
        output: Tensor = network(x, time) if labels is None else network(x, time, labels)
        return output

    steps = min(num_steps, process.num_timesteps) if isinstance(process, DiscreteProcess) else num_steps
    table = step_table("ddim", process, prediction, steps, {"clip_x0": not latent})
    x = torch.from_numpy(noise()).to(device)
    final = np.asarray(sample(denoise, x, table, lambda: torch.from_numpy(noise()).to(device)).cpu())
    shown = final[:, :3] / LATENT_RANGE if latent else final
    images.write_png(path, images.grid(images.to_uint8(shown)))
