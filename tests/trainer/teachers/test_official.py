"""Official checkpoint files against timm's arithmetic."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_teachers import (
    CPU,
    IMAGENET,
    mirror_folder,
    normalised,
    save,
    timm_state,
    vit,
)
from torch import Tensor
from torch.nn import functional as F

from drun.errors import CheckpointError
from dtrain import teachers


def timm_vit(state: dict[str, Tensor], images: Tensor, num_heads: int, final_norm: bool) -> Tensor:
    """A vision transformer as timm computes it, from its weights: patch tokens without the class token."""
    hidden = state["cls_token"].shape[-1]

    def norm(key: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]

    def linear(key: str, x: Tensor) -> Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    projection = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    patches = F.conv2d(normalised(images, IMAGENET), *projection, stride=16)
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    square = state["pos_embed"][:, 1:].transpose(1, 2).reshape(1, hidden, 14, 14)
    resized = F.interpolate(square, (16, 16), mode="bicubic", align_corners=False, antialias=True)
    x = x + torch.cat([state["pos_embed"][:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
    for i in range(1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))):
        n, tokens, _ = x.shape
        qkv = linear(f"blocks.{i}.attn.qkv", norm(f"blocks.{i}.norm1", x))
        q, k, v = qkv.reshape(n, tokens, 3, num_heads, hidden // num_heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (hidden // num_heads) ** 0.5).softmax(-1)
        x = x + linear(f"blocks.{i}.attn.proj", (weights @ v).transpose(1, 2).reshape(n, tokens, hidden))
        inner = linear(f"blocks.{i}.mlp.fc1", norm(f"blocks.{i}.norm2", x))
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        x = x + linear(f"blocks.{i}.mlp.fc2", inner)
    return (norm("norm", x) if final_norm else x)[:, 1:]


def moco_file(state: dict[str, Tensor], path: Path) -> None:
    """As the published one: two encoders in a wrapper, a projector, misnamed layers and the run's options."""
    typos = {"blocks.13.norm1.": "blocks.13.norm13.", "blocks.13.mlp.fc1.": "blocks.13.mlp.fc13."}
    typos |= {"blocks.14.norm2.": "blocks.14.norm14.", "blocks.14.mlp.fc2.": "blocks.14.mlp.fc14."}
    published = {}
    for key, value in state.items():
        for right, wrong in typos.items():
            key = key.replace(right, wrong)
        published[f"module.base_encoder.{key}"] = value
        published[f"module.momentum_encoder.{key}"] = value + 1
    published |= {"module.base_encoder.head.0.weight": torch.zeros(2, 2), "module.predictor.0.weight": torch.ones(2)}
    torch.save({"epoch": 300, "args": argparse.Namespace(arch="vit"), "state_dict": published}, path)


def mae_file(state: dict[str, Tensor], path: Path) -> None:
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    torch.save({"model": state | decoder, "args": argparse.Namespace(model="mae")}, path)


@pytest.mark.parametrize(
    ("name", "write", "num_heads", "depth"),
    [
        ("mocov3-vit-l", moco_file, 16, 15), ("mocov3-vit-s", mirror_folder, 12, 2), ("mae-vit-l", mae_file, 16, 2),
        ("dinov1-vit-s", torch.save, 6, 2),
    ],
)  # fmt: skip
def test_official_files_compute_what_timm_computes(
    name: str, write: Callable[[dict[str, Tensor], Path], None], num_heads: int, depth: int, tmp_path: Path,
    images: Tensor,
) -> None:  # fmt: skip
    state, path = timm_state(48, depth), tmp_path / "official.pth.tar"
    write(state, path)
    teacher = teachers.load(f"{name}={path}", 256, CPU)
    expected = timm_vit(state, images, num_heads, final_norm=not name.startswith("mae"))
    torch.testing.assert_close(teacher(images), expected, rtol=1e-5, atol=1e-5)


def test_a_file_and_a_folder_of_the_same_weights_are_the_same_teacher(tmp_path: Path) -> None:
    torch.save(timm_state(24, 2), tmp_path / "dino.pth")
    from_file = teachers.load(f"dinov1-vit-b={tmp_path / 'dino.pth'}", 256, CPU)
    network = vit(num_attention_heads=12, intermediate_size=40, image_size=256)
    network.load_state_dict(from_file.network.state_dict())
    from_folder = teachers.load(f"dinov1-vit-b={save(network, tmp_path / 'dino')}", 256, CPU)
    assert from_file.fingerprint == from_folder.fingerprint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cls_token": None}, "no vision transformer in the layout of timm: it lacks 'cls_token'"),
        ({"blocks.1.ls1.gamma": torch.ones(24)}, r"'blocks\.1\.ls1\.gamma', which no plain vision transformer has"),
        ({"blocks.1.norm2.bias": None}, r"does not fit a ViTModel: it lacks '.*layernorm_after.bias'"),
        ({"norm.bias": torch.ones(7)}, r"does not fit .*'layernorm.bias' got \(7,\), expected \(24,\)"),
        ({"patch_embed.proj.weight": torch.ones(24, 3, 8, 8)}, "has patch_size 8, expected 16: it is another teacher"),
    ],
)
def test_official_files_that_do_not_fit_are_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    state = timm_state(24, 2) | change
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=complaint):
        teachers.load(f"mocov3-vit-b={tmp_path / 'w.pth'}", 256, CPU)
