"""Tiny random networks of the real classes that teachers are made of, and their files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from dtrain import config, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE: dict[str, Any] = SIZES | {"intermediate_size": 32}
TINY = {
    "image_size": 16, "patch_size": 4, "channels": 1, "num_classes": 10, "hidden_size": 16, "depth": 2, "num_heads": 2,
}  # fmt: skip


def perturb(network: nn.Module) -> Any:
    """No weight stays at what it is set up with: neither zeros, nor ones, nor a regular position embedding."""
    generator = torch.Generator().manual_seed(3)
    for key, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.4 if "position" in key else 0.15
        parameter.data = scale * noise + (1.0 if parameter.ndim == 1 and "bias" not in key else 0.0)
    return network.eval()


def dinov2(**options: Any) -> Any:
    return transformers.Dinov2Model(transformers.Dinov2Config(**({"image_size": 518} | SIZES | options)))


def dinov2_reg(**options: Any) -> Any:
    settings = {"image_size": 518, "patch_size": 14, "num_register_tokens": 4} | SIZES | options
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**settings))


def vit(**options: Any) -> Any:
    settings = WIDE | {"layer_norm_eps": 1e-6} | options
    return transformers.ViTModel(transformers.ViTConfig(**settings), add_pooling_layer=False)


def clip(**options: Any) -> Any:
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**({"patch_size": 14} | WIDE | options)))


def jepa(**options: Any) -> Any:
    settings = {"patch_size": 14, "layer_norm_eps": 1e-6} | WIDE | options
    return transformers.IJepaModel(transformers.IJepaConfig(**settings))


def mae(**options: Any) -> Any:
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    settings = WIDE | decoder | {"decoder_intermediate_size": 16, "layer_norm_eps": 1e-6} | options
    return transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**settings))


def save(network: Any, folder: Path) -> Path:
    """Write a network as its class does, without its bars."""
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    network.save_pretrained(folder)
    if shown:
        transformers.logging.enable_progress_bar()
    return folder


def picture(side: int) -> Tensor:
    """Smooth shapes, an edge and some noise: uint8 (2, side, side, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin(9 * x + k) * np.cos((5 + k) * y) for k in range(3)], -1)
    both = np.stack([waves, waves[::-1] * 0.5 + (x > y)[..., None] * 0.4])
    pixels = 127 + 90 * both + 30 * rng.standard_normal((2, side, side, 3))
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


def timm_state(hidden: int, depth: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int, around: float = 0.0) -> Tensor:
        return around + 0.15 * torch.randn(shape, generator=generator)

    state = {
        "cls_token": random(1, 1, hidden), "pos_embed": 3 * random(1, 197, hidden),
        "patch_embed.proj.weight": random(hidden, 3, 16, 16) / 3, "patch_embed.proj.bias": random(hidden),
        "norm.weight": random(hidden, around=1), "norm.bias": random(hidden),
    }  # fmt: skip
    shapes = {"attn.qkv": (3 * hidden, hidden), "attn.proj": (hidden, hidden), "mlp.fc1": (40, hidden)}
    for i in range(depth):
        for key, (rows, columns) in (shapes | {"mlp.fc2": (hidden, 40)}).items():
            state |= {f"blocks.{i}.{key}.weight": random(rows, columns), f"blocks.{i}.{key}.bias": random(rows)}
        for norm in ("norm1", "norm2"):
            state[f"blocks.{i}.{norm}.weight"] = random(hidden, around=1)
            state[f"blocks.{i}.{norm}.bias"] = random(hidden)
    return state


def mirror_folder(state: dict[str, Tensor], path: Path) -> None:
    path.mkdir()
    save_file(state | {"head.weight": torch.zeros(2, 2)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_224"}))


def normalised(images: Tensor, constants: Any) -> Tensor:
    x = images.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in constants)
    return (x - mean) / std


def own_checkpoint(folder: Path, step: int, **options: Any) -> nn.Module:
    description = {"name": "ViT", **TINY, **options}
    network = perturb(models.build(description))
    recipe = config.Recipe(
        "digits-teacher", description, {}, {"name": "classify"}, config.Data(16), config.Train(10, 4)
    )
    zeros = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    checkpoint.save(Checkpoint(recipe, step, zeros, network.state_dict(), {}), folder, keep=9)
    return network
