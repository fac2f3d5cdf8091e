"""The frozen autoencoder between images and latents (Rombach et al. 2022), and its decoder as a network of its own."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drun.errors import ConfigError

INSTALL = "install it with: pip install 'dexport[latents]'"


def load(name_or_dir: str, device: torch.device | str = "cpu") -> Vae:
    """A pretrained `AutoencoderKL` of diffusers, frozen, in eval mode and float32.

    name_or_dir: a folder with config.json and diffusion_pytorch_model.safetensors (or .bin, of which only tensors are
        read), or `owner/name` on the Hugging Face Hub, such as stabilityai/sd-vae-ft-ema, which is downloaded once.
        Code that comes with a model is never run.

    Raises:
        ConfigError: diffusers is not installed, the model cannot be read or reached, or is no VAE of RGB images.
    """
    try:
        autoencoder = import_module("diffusers").AutoencoderKL
    except ImportError as error:
        raise ConfigError(f"The VAE needs diffusers, which cannot be imported ({error}): {INSTALL}.") from error
    is_folder = Path(name_or_dir).is_dir()
    if not is_folder and not re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]+", name_or_dir):
        raise ConfigError(f"Unknown VAE '{name_or_dir}': no such folder, and not a name such as owner/name.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # diffusers calls its own dependencies in outdated ways
            model, info = autoencoder.from_pretrained(
                name_or_dir, torch_dtype=torch.float32, local_files_only=is_folder, output_loading_info=True
            )
    except Exception as error:  # OSError, ValueError, RuntimeError, TypeError, ...: whatever the files make it raise
        advice = "give a folder that holds its config.json and diffusion_pytorch_model.safetensors"
        if not is_folder:
            advice = f"check the name and the connection, or {advice}"
        raise ConfigError(f"Cannot load the VAE '{name_or_dir}': {_one_line(error)}; {advice}.") from error
    _check(model, info, name_or_dir)
    return Vae(model.requires_grad_(False).eval().to(device), name_or_dir)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(" .") or type(error).__name__


def _check(model: Any, info: dict[str, Any], name: str) -> None:
    # diffusers only logs these, and fills what is missing with random numbers.
    wrong = {kind: info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    if wrong:
        kind, keys = next(iter(wrong.items()))
        got = f"{kind.removesuffix('_keys')} weights {', '.join(map(str, sorted(keys)[:3]))}"
        raise ConfigError(f"The VAE '{name}' does not fit its config.json: got {got}; expected an AutoencoderKL.")
    channels = (model.config.in_channels, model.config.out_channels)
    if channels != (3, 3):
        raise ConfigError(f"The VAE '{name}' has {channels} image channels, expected 3 in and 3 out.")


class Vae:
    """A loaded VAE. The latents that a diffusion model sees are z = latent * scale + bias, channel by channel.

    latent_channels: C. downsampling: image pixels to a side of a latent one. scale, bias: tuples of C floats, from
    the config (0.18215 and 0 for Stable Diffusion 1.x and 2.x).
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        config = model.config
        self.latent_channels = int(config.latent_channels)
        self.downsampling = int(2 ** (len(config.block_out_channels) - 1))
        # A shift and a mean by channel are two ways to write what is taken off before the scale.
        means = config.latents_mean or [0.0] * self.latent_channels
        stds = config.latents_std or [1.0] * self.latent_channels
        shift = config.shift_factor or 0.0
        self.scale = tuple(float(config.scaling_factor / std) for std in stds)
        self.bias = tuple((0.0 - shift - mean) * scale for mean, scale in zip(means, self.scale, strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the config and the weights, whatever file they came from."""
        config = {key: value for key, value in self.model.config.items() if key[0] != "_" and value is not None}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    def moments(self, images: Tensor) -> Tensor:
        """The posterior of each latent: [mean | standard deviation], float32 (N, 2C, H / downsampling, ...).

        images: uint8 (N, H, W, 3), on any device; H and W multiples of `downsampling`. The result is on the VAE's.
        The images enter as x / 127.5 - 1. Computed in float32, with the same bits in every run, whatever the
        surrounding precision; images of one call do not see each other.
        """
        pixels = to_model_range(images.to(self.model.device))
        with torch.no_grad(), _plain_float32(pixels.device):
            posterior = self.model.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)


@contextmanager
def _plain_float32(device: torch.device) -> Iterator[None]:
    """cuDNN would round to TF32's 10 bits; data that is made once and kept is worth the time."""
    plain = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(**plain):
        yield


class Decoder(nn.Module):
    """From what a diffusion model draws to images; it exports like a denoiser."""

    scale: Tensor
    bias: Tensor

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.decoder = copy.deepcopy(vae.model.decoder)
        self.post_quant_conv = copy.deepcopy(vae.model.post_quant_conv) or nn.Identity()
        for name in ("scale", "bias"):
            values = torch.tensor(getattr(vae, name), dtype=torch.float32, device=vae.model.device)
            self.register_buffer(name, values[:, None, None])
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        """z: float32 (N, C, h, w) -> images: float32 (N, 3, H, W), about -1..1, not clipped.

        Decodes (z - bias) / scale.
        """
        images: Tensor = self.decoder(self.post_quant_conv((z - self.bias) / self.scale))
        return images


def to_model_range(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) in 0..255 -> float32 (N, C, H, W) in [-1, 1]."""
    assert images.dtype == torch.uint8, images.dtype
    return images.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 127.5 - 1
