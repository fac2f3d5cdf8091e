"""Each family's features against REPA's order of operations, written out here once more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_teachers import (
    CPU,
    IMAGENET,
    OPENAI,
    clip,
    dinov2,
    dinov2_reg,
    jepa,
    mae,
    normalised,
    perturb,
    picture,
    save,
    transformers,
    vit,
)
from torch import Tensor
from torch.nn import functional as F

from dtrain import teachers

# ---- the official order of operations, once more ------------------------------------------------------------


def to_224(x: Tensor) -> Tensor:
    return F.interpolate(x, 224 * (x.shape[-1] // 256), mode="bicubic", align_corners=False, antialias=False)


def on_grid(make: Callable[..., Any], trained: Any, grid: int) -> Any:
    """The network made for exactly this grid, with the trained weights: the library has nothing to resample."""
    state = trained.state_dict()
    table = state["embeddings.position_embeddings"]
    side = int((table.shape[1] - 1) ** 0.5)
    square = table[0, 1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, (grid, grid), mode="bicubic", align_corners=False, antialias=True)
    patches = resized.flatten(2).transpose(1, 2)
    state["embeddings.position_embeddings"] = torch.cat([table[:, :1], patches], dim=1)
    fresh = make(image_size=grid * trained.config.patch_size).eval()
    fresh.load_state_dict(state)
    return fresh


def official_dinov2(make: Callable[..., Any], trained: Any, images: Tensor, skipped: int) -> Tensor:
    x = to_224(normalised(images, IMAGENET))
    return on_grid(make, trained, images.shape[1] // 16)(x).last_hidden_state[:, skipped:]


def official_vit(trained: Any, images: Tensor) -> Tensor:
    return on_grid(vit, trained, images.shape[1] // 16)(normalised(images, IMAGENET)).last_hidden_state[:, 1:]


def official_mae(trained: Any, images: Tensor) -> Tensor:
    """The encoder that transformers has for MAE, with nothing masked, in order, up to the last norm's input."""
    network = on_grid(lambda **size: mae(**size, mask_ratio=0.0).vit, trained.vit, images.shape[1] // 16)
    seen: list[Tensor] = []
    network.layernorm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = normalised(images, IMAGENET)
    network(x, noise=torch.arange((x.shape[-1] // 16) ** 2).float().repeat(len(x), 1))
    return seen[0][:, 1:]


def official_clip(trained: Any, images: Tensor) -> Tensor:
    x = to_224(images.permute(0, 3, 1, 2).float() / 255)
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in OPENAI)
    embedded = trained.pre_layrnorm(trained.embeddings((x - mean) / std))
    return trained.encoder(inputs_embeds=embedded).last_hidden_state[:, 1:]


def official_jepa(trained: Any, images: Tensor) -> Tensor:
    return trained(to_224(normalised(images, IMAGENET))).last_hidden_state


OFFICIAL: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], Tensor]]] = {
    "dinov2-vit-b": (dinov2, lambda trained, images: official_dinov2(dinov2, trained, images, 1)),
    "dinov2-vit-g": (
        lambda: dinov2(use_swiglu_ffn=True),
        lambda trained, images: official_dinov2(lambda **o: dinov2(use_swiglu_ffn=True, **o), trained, images, 1),
    ),
    "dinov2-reg-vit-l": (dinov2_reg, lambda trained, images: official_dinov2(dinov2_reg, trained, images, 5)),
    "dinov1-vit-b": (vit, official_vit),
    "mocov3-vit-s": (vit, official_vit),
    "mae-vit-l": (mae, official_mae),
    "clip-vit-l": (clip, official_clip),
    "jepa-vit-h": (jepa, official_jepa),
}


@pytest.mark.parametrize("name", OFFICIAL)
@torch.no_grad()
def test_features_are_those_of_the_official_order_of_operations(name: str, tmp_path: Path, images: Tensor) -> None:
    make, official = OFFICIAL[name]
    trained = perturb(make())
    teacher = teachers.load(f"{name}={save(trained, tmp_path / 'weights')}", 256, CPU)
    features = teacher(images)
    assert features.dtype == torch.float32
    assert features.shape == (2, teacher.num_tokens, teacher.dim) == (2, 256, 24)
    assert features.std() > 0.1  # not a constant
    torch.testing.assert_close(features, official(trained, images), rtol=0, atol=1e-5)


@torch.no_grad()
def test_512_pixels_give_dinov2_1024_tokens(tmp_path: Path) -> None:
    trained = perturb(dinov2())
    teacher = teachers.load(f"dinov2-vit-b={save(trained, tmp_path)}", 512, CPU)
    large = picture(512)[:1]
    features = teacher(large)
    assert features.shape == (1, 1024, 24)
    torch.testing.assert_close(features, official_dinov2(dinov2, trained, large, 1), rtol=0, atol=1e-5)


def test_positions_are_resampled_as_antialiased_cubic_weights_say() -> None:
    table = torch.randn(1, 1 + 37 * 37, 5, generator=torch.Generator().manual_seed(1))
    resampled = teachers.resample_positions(table, 16)
    weights = cubic_weights(37, 16)
    square = table[0, 1:].double().reshape(37, 37, 5).numpy()
    expected = np.einsum("ip,jq,pqd->ijd", weights, weights, square).reshape(256, 5)
    assert resampled.shape == (1, 257, 5)
    assert torch.equal(resampled[:, 0], table[:, 0])
    np.testing.assert_allclose(resampled[0, 1:].numpy(), expected, atol=1e-5)
    assert torch.equal(teachers.resample_positions(table, 37), table)


def cubic_weights(old: int, new: int) -> Any:
    """(new, old): Keys' cubic with a = -0.5, as wide as a new pixel is in old ones."""
    scale = old / new
    at = np.abs((np.arange(old)[None] + 0.5 - (np.arange(new)[:, None] + 0.5) * scale) / scale)
    near, far = 1.5 * at**3 - 2.5 * at**2 + 1, -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2
    weights = np.where(at < 1, near, np.where(at < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


# ---- where that differs from what the library does by itself ------------------------------------------------


@torch.no_grad()
def test_the_librarys_own_position_resampling_would_give_other_features(tmp_path: Path, images: Tensor) -> None:
    for name, make in (("dinov2-vit-b", dinov2), ("dinov1-vit-b", vit)):
        trained = perturb(make())
        features = teachers.load(f"{name}={save(trained, tmp_path / name)}", 256, CPU)(images)
        x = normalised(images, IMAGENET)
        by_library = trained(to_224(x)) if make is dinov2 else trained(x, interpolate_pos_encoding=True)
        difference = (by_library.last_hidden_state[:, 1:] - features).abs().max()
        assert difference > 1e-3, f"{name}: {difference}"


@torch.no_grad()
def test_the_librarys_image_processor_would_give_other_features(tmp_path: Path, images: Tensor) -> None:
    trained = perturb(dinov2())
    features = teachers.load(f"dinov2-vit-b={save(trained, tmp_path)}", 256, CPU)(images)
    process = transformers.BitImageProcessorPil(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}, resample=3,
        image_mean=IMAGENET[0], image_std=IMAGENET[1],
    )  # fmt: skip
    pixels = process(list(images.numpy()), return_tensors="pt").pixel_values
    assert pixels.shape == (2, 3, 224, 224)
    processed = on_grid(dinov2, trained, 16)(pixels).last_hidden_state[:, 1:]
    assert (processed - features).abs().max() > 1e-2


@torch.no_grad()
def test_mae_neither_masks_nor_shuffles_nor_normalises_at_the_end(tmp_path: Path, images: Tensor) -> None:
    trained = perturb(mae())
    spec = f"mae-vit-b={save(trained, tmp_path / 'a')}"
    features = teachers.load(spec, 256, CPU)(images)
    assert torch.equal(features, teachers.load(spec, 256, CPU)(images))
    trained.vit.layernorm.weight.data *= 3
    again = teachers.load(f"mae-vit-b={save(trained, tmp_path / 'b')}", 256, CPU)(images)
    assert torch.equal(features, again)


@torch.no_grad()
def test_the_epsilon_is_the_official_one_whatever_the_hub_says(tmp_path: Path, images: Tensor) -> None:
    trained = perturb(vit())
    right = teachers.load(f"dinov1-vit-b={save(trained, tmp_path)}", 256, CPU)(images)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["layer_norm_eps"] == 1e-6
    (tmp_path / "config.json").write_text(json.dumps(described | {"layer_norm_eps": 0.1}))
    assert torch.equal(teachers.load(f"dinov1-vit-b={tmp_path}", 256, CPU)(images), right)


def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path: Path, images: Tensor) -> None:
    halved = save(perturb(clip()).half(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    teacher = teachers.load(f"clip-vit-l={halved}", 256, CPU)
    assert {parameter.dtype for parameter in teacher.network.parameters()} == {torch.float32}
    assert teacher(images).dtype == torch.float32
