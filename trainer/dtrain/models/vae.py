"""The frozen autoencoder between images and latents (Rombach et al. 2022), and its decoder as a network of its own."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drun.errors import ConfigError, door, reason
from drun.extras import is_installed
from drun.foreign import read_json
from dtrain import hub

INSTALL = "install it with: pip install 'dexport[latents]'"
#: The names of the file of weights, the best first: safetensors hold no code.
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_FOLDER = f"a folder that holds its config.json and {WEIGHTS[0]}"
#: The largest number and the longest list in a config.json, far above those of any VAE.
_LARGEST, _LONGEST, _LIMITS = 1 << 16, 256, {"layers_per_block": 16, "latent_channels": 1024}


def load(name_or_dir: str, device: torch.device | str = "cpu", fetch: bool = True) -> Vae:
    """A pretrained `AutoencoderKL` of diffusers, frozen, in eval mode and float32.

    Args:
        name_or_dir: a folder with config.json and diffusion_pytorch_model.safetensors (or .bin, of which only tensors
            are read), or `owner/name` on the Hugging Face Hub, such as stabilityai/sd-vae-ft-ema. Code that comes with
            a model is never run.
        fetch: whether such a name is downloaded, once. A name from anybody's file is not.

    Raises:
        ConfigError: diffusers is not installed, the model cannot be read or reached, or is no VAE of RGB images.
    """
    if not is_installed("diffusers"):
        raise ConfigError(f"the VAE needs diffusers, which is not installed: {INSTALL}")
    with door(f"cannot load the VAE '{name_or_dir}'", ConfigError, f"give {_FOLDER}"):
        folder = _folder(name_or_dir, fetch)  # first, because the import takes several seconds
        autoencoder = _library().AutoencoderKL
        _check_config(folder)
        with _quiet():
            model, info = autoencoder.from_pretrained(
                folder, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        _check(model, info, name_or_dir)
        return Vae(model.requires_grad_(False).eval().to(device), name_or_dir)


def _library() -> Any:
    try:
        diffusers = import_module("diffusers")
        diffusers.AutoencoderKL  # noqa: B018, which imports the rest
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"the VAE needs diffusers, which cannot be imported ({reason(error)}): {INSTALL}") from error
    return diffusers


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence diffusers, which calls its own dependencies in outdated ways and prints what it raises."""
    log = import_module("diffusers").utils.logging
    verbosity = log.get_verbosity()
    log.set_verbosity(log.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)


def _folder(name_or_dir: str, fetch: bool) -> Path:
    if Path(name_or_dir).is_dir():
        return Path(name_or_dir)
    if not hub.is_name(name_or_dir):
        raise ConfigError(f"unknown VAE '{name_or_dir}': no such folder, and not a name such as owner/name")
    advice = f"check the name and the connection, or give {_FOLDER}" if fetch else f"repeat it by --vae {name_or_dir}"
    return hub.folder(name_or_dir, WEIGHTS, fetch, ConfigError, advice)


def _check_config(folder: Path) -> None:
    """Refuse numbers that would build a network which no machine holds, before its weights could contradict."""
    config = read_json(folder / "config.json", ConfigError, f"give {_FOLDER}")
    for key, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        limit = _LIMITS.get(key, _LARGEST)
        if len(numbers) > _LONGEST or any(isinstance(number, int) and abs(number) > limit for number in numbers):
            raise ValueError(f"its {key} {value!r} is out of range")


def _check(model: Any, info: dict[str, Any], name: str) -> None:
    # diffusers only logs these keys, and fills missing weights with random numbers.
    wrong = {kind: info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    if wrong:
        kind, keys = next(iter(wrong.items()))
        got = f"{kind.removesuffix('_keys')} weights {', '.join(map(str, sorted(keys)[:3]))}"
        raise ConfigError(f"the VAE '{name}' does not fit its config.json: got {got}; expected an AutoencoderKL")
    channels = (model.config.in_channels, model.config.out_channels)
    if channels != (3, 3):
        raise ConfigError(f"the VAE '{name}' has {channels} image channels, expected 3 in and 3 out")


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
        # A shift and a mean by channel are two ways to write what is subtracted before the scale.
        means = config.latents_mean or [0.0] * self.latent_channels
        stds = config.latents_std or [1.0] * self.latent_channels
        shift = config.shift_factor or 0.0
        self.scale = tuple(float(config.scaling_factor / std) for std in stds)
        self.bias = tuple((0.0 - shift - mean) * scale for mean, scale in zip(means, self.scale, strict=True))
        right = min(self.scale) > 0 and np.abs([self.scale, self.bias]).max() <= np.finfo(np.float32).max  # NaN is not
        if len(means) != self.latent_channels or not right:
            raise ValueError(f"got scale {self.scale} and bias {self.bias}, expected {self.latent_channels} numbers")

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
    """Keep cuDNN from rounding to TF32's 10 bits: latents are computed once and kept."""
    plain = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(**plain):
        yield


class Decoder(nn.Module):
    """The decoder from a diffusion model's states to images. It is exported like a denoiser."""

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
