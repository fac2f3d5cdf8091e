"""What tests of encoding and of latents share: a tiny VAE, pictures of noise, and how a folder must look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dtrain.data.latents import Latents

SIZE = 16


def tiny_vae(path: Path, seed: int = 0, **config: Any) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    settings = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, **config}
    model = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, **settings)
    model.save_pretrained(path)
    return path


def noise(height: int, width: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


NAMES = ["cat/a.png", "cat/c.png", "cat/x/z.png", "dog/a.bmp", "dog/b.png", "dog/c.png", "dog/grey.tif"]


def adm_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Dhariwal & Nichol 2021: halve while twice too large, bicubic to the short side, cut the centre."""
    image = image.convert("RGB")
    while min(*image.size) >= 2 * size:
        image = image.resize((image.size[0] // 2, image.size[1] // 2), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    pixels = np.array(image.resize(tuple(round(side * scale) for side in image.size), Image.Resampling.BICUBIC))
    y, x = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[y : y + size, x : x + size]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def everything(latents: Latents) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    indices = np.arange(len(latents))
    assert latents.images is not None
    return latents.moments(indices), latents.images(indices)
