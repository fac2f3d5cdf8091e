"""Tiny random networks of the real classes against REPA's order of operations, written out here once more."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from drun.errors import CheckpointError, ConfigError, DataError
from dtrain import config, models, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.teachers import Teacher

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE: dict[str, Any] = SIZES | {"intermediate_size": 32}


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


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Smooth shapes, an edge and some noise: uint8 (2, 256, 256, 3)."""
    return picture(256)


def picture(side: int) -> Tensor:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin(9 * x + k) * np.cos((5 + k) * y) for k in range(3)], -1)
    both = np.stack([waves, waves[::-1] * 0.5 + (x > y)[..., None] * 0.4])
    pixels = 127 + 90 * both + 30 * rng.standard_normal((2, side, side, 3))
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


# ---- the official order of operations, once more ------------------------------------------------------------


def normalised(images: Tensor, constants: Any) -> Tensor:
    x = images.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in constants)
    return (x - mean) / std


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


# ---- official checkpoint files ------------------------------------------------------------------------------


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


def mirror_folder(state: dict[str, Tensor], path: Path) -> None:
    path.mkdir()
    save_file(state | {"head.weight": torch.zeros(2, 2)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_224"}))


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


# ---- our own ------------------------------------------------------------------------------------------------

TINY = {
    "image_size": 16, "patch_size": 4, "channels": 1, "num_classes": 10, "hidden_size": 16, "depth": 2, "num_heads": 2,
}  # fmt: skip


def own_checkpoint(folder: Path, step: int, **options: Any) -> nn.Module:
    description = {"name": "ViT", **TINY, **options}
    network = perturb(models.build(description))
    recipe = config.Recipe(
        "digits-teacher", description, {}, {"name": "classify"}, config.Data(16), config.Train(10, 4)
    )
    zeros = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    checkpoint.save(Checkpoint(recipe, step, zeros, network.state_dict(), {}), folder, keep=9)
    return network


def test_the_newest_of_our_own_checkpoints_is_a_teacher(tmp_path: Path) -> None:
    own_checkpoint(tmp_path, 9, depth=1)
    network = own_checkpoint(tmp_path, 10)
    digits = torch.randint(0, 256, (3, 16, 16, 1), dtype=torch.uint8)
    teacher = teachers.load(str(tmp_path), 16, CPU)
    expected = network.tokens(digits.permute(0, 3, 1, 2) / 127.5 - 1)
    assert (teacher.name, teacher.num_tokens, teacher.dim) == ("digits-teacher", 16, 16)
    torch.testing.assert_close(teacher(digits), expected.detach(), rtol=0, atol=1e-6)
    older = teachers.load(str(tmp_path / "digits-teacher-0000009.pt"), 16, CPU)
    assert older.fingerprint != teacher.fingerprint


def test_what_is_no_teacher_of_ours_is_refused(tmp_path: Path) -> None:
    own_checkpoint(tmp_path, 1)
    with pytest.raises(ConfigError, match="takes images of 16 pixels, the data has 32: choose another"):
        teachers.load(str(tmp_path), 32, CPU)
    unet = {"name": "OneResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 1}
    recipe = config.Recipe("digits-unet", unet, {}, {}, config.Data(16), config.Train(10, 4))
    path = checkpoint.save(Checkpoint(recipe, 1, {}, {}, {}), tmp_path / "unet", 1)
    with pytest.raises(CheckpointError, match="holds a OneResUNet, expected a ViT as the teacher"):
        teachers.load(str(path), 16, CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no checkpoint of dtrain in .*empty.*name=FOLDER"):
        teachers.load(str(tmp_path / "empty"), 16, CPU)
    recipe = config.Recipe("broken", {"name": "ViT", **TINY}, {}, {}, config.Data(16), config.Train(10, 4))
    path = checkpoint.save(Checkpoint(recipe, 1, {}, {"head.bias": torch.zeros(10)}, {}), tmp_path / "broken", 1)
    with pytest.raises(CheckpointError, match=r"broken-0000001.pt' does not fit its network: .* got nothing"):
        teachers.load(str(path), 16, CPU)


# ---- what a teacher is --------------------------------------------------------------------------------------


def test_a_teacher_is_frozen_and_no_part_of_the_network_that_keeps_it(tmp_path: Path, images: Tensor) -> None:
    teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    student = nn.Linear(2, 2)
    student.teacher = teacher
    assert set(student.state_dict()) == {"weight", "bias"}
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    student.train()
    assert not teacher.network.training
    assert not teacher(images).requires_grad


def test_grey_images_are_repeated_and_other_images_refused(tmp_path: Path, images: Tensor) -> None:
    teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    grey = images[..., :1]
    assert torch.equal(teacher(grey), teacher(grey.repeat(1, 1, 1, 3)))
    with pytest.raises(DataError, match=r"uint8 \(2, 128, 256, 3\), expected uint8 \(N, 256, 256, 3\)"):
        teacher(images[:, :128])
    with pytest.raises(DataError, match="got images of float32"):
        teacher(images.float())
    with pytest.raises(DataError, match=r"\(2, 256, 256, 2\)"):
        teacher(images[..., :2])


def test_the_fingerprint_is_of_name_weights_and_image_size(tmp_path: Path) -> None:
    trained = perturb(vit())
    first, second = save(trained, tmp_path / "first"), tmp_path / "second"
    shutil.copytree(first, second)
    base = teachers.load(f"mocov3-vit-b={first}", 256, CPU).fingerprint
    assert len(base) == 64
    assert teachers.load(f"mocov3-vit-b={second}", 256, CPU).fingerprint == base
    others = [teachers.load(f"dinov1-vit-b={first}", 256, CPU), teachers.load(f"mocov3-vit-b={first}", 512, CPU)]
    trained.layers[1].mlp.fc1.bias.data[3] += 1e-6
    others.append(teachers.load(f"mocov3-vit-b={save(trained, tmp_path / 'third')}", 256, CPU))
    assert len({base, *(other.fingerprint for other in others)}) == 4


def test_tokens_have_to_be_as_many_as_the_networks(tmp_path: Path) -> None:
    teacher: Teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    teachers.check_tokens(teacher, 256)
    with pytest.raises(ConfigError, match="'jepa-vit-h' gives 256 tokens for 256 pixels, the network has 64"):
        teachers.check_tokens(teacher, 64)


def test_loading_prints_nothing_and_leaves_the_librarys_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(perturb(mae()), tmp_path)
    transformers.logging.enable_progress_bar()
    before = transformers.logging.get_verbosity()
    capfd.readouterr()
    teachers.load(f"mae-vit-l={tmp_path}", 256, CPU)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.is_progress_bar_enabled()
    assert transformers.logging.get_verbosity() == before


# ---- what cannot be loaded ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "image_size", "error", "complaint"),
    [
        ("runs/none", 16, ConfigError, "no teacher at 'runs/none': train one .'dtrain run digits-teacher'"),
        ("dinov2-vit-xl", 256, ConfigError, "unknown teacher 'dinov2-vit-xl': choose from dinov2-vit-s, .*jepa-vit-h"),
        ("dinov2-vit-b=", 256, ConfigError, "expected dinov2-vit-b or dinov2-vit-b=LOCATION"),
        ("clip-vit-l=/no/such", 256, CheckpointError, "no such file or folder: '/no/such'.*'clip-vit-l'"),
        ("mae-vit-l=ckpts/mae.pth", 256, CheckpointError, "no such file or folder: 'ckpts/mae.pth'"),
        ("mocov3-vit-s", 256, ConfigError, "on no hub: give its official checkpoint by mocov3-vit-s=FILE"),
        ("dinov2-vit-b", 320, ConfigError, "'dinov2-vit-b' got images of 320 pixels, expected a multiple of 256"),
        ("clip-vit-l", 512, ConfigError, "got images of 512 pixels, expected 256: choose another teacher"),
        ("jepa-vit-h", 0, ConfigError, "expected 256"),
        ("mae-vit-l", 250, ConfigError, "expected a multiple of 16"),
    ],
)
def test_wrong_specs_are_refused(spec: str, image_size: int, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        teachers.load(spec, image_size, CPU)


def test_folders_of_another_class_or_damaged_are_refused(tmp_path: Path) -> None:
    folder = save(perturb(dinov2(num_hidden_layers=1)), tmp_path / "dinov2")
    with pytest.raises(CheckpointError, match="holds a 'dinov2', expected a 'clip'"):
        teachers.load(f"clip-vit-l={folder}", 256, CPU)
    described = json.loads((folder / "config.json").read_text())

    def describe(**changes: Any) -> str:
        (folder / "config.json").write_text(json.dumps(described | changes))
        return f"dinov2-vit-b={folder}"

    with pytest.raises(CheckpointError, match=r"does not fit a Dinov2Model .*got \(.*24.*\), expected \(.*32.*\)"):
        teachers.load(describe(hidden_size=32), 256, CPU)
    with pytest.raises(CheckpointError, match=r"does not fit a Dinov2Model: it lacks 'encoder\.layer\.1\."):
        teachers.load(describe(num_hidden_layers=2), 256, CPU)
    with pytest.raises(CheckpointError, match=r"got \(24, 3, 14, 14\), expected \(24, 3, 7, 7\)"):
        teachers.load(describe(patch_size=7), 256, CPU)
    spec, weights = describe(), (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match=f"the weights in '{folder}' do not fit"):
        teachers.load(spec, 256, CPU)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"do not fit: .*model\.safetensors"):
        teachers.load(spec, 256, CPU)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json'"):
        teachers.load(spec, 256, CPU)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="was not written by save_pretrained"):
        teachers.load(spec, 256, CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 60_000}, {"num_hidden_layers": 5000}, {"mlp_ratio": 1_000_000}, {"image_size": 10**9},
        {"hidden_size": "x"}, {"hidden_act": "evil"}, {"patch_size": 0}, {"hidden_size": 10**30},
    ],
)  # fmt: skip
def test_a_configuration_that_no_machine_holds_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save(perturb(dinov2()), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=r"the weights in '.*' do not fit: .+; copy it again"):
        teachers.load(f"dinov2-vit-s={tmp_path}", 256, CPU)


def test_networks_of_another_patch_or_unresampled_image_size_are_refused(tmp_path: Path) -> None:
    save(perturb(clip(image_size=336)), tmp_path / "large")
    with pytest.raises(CheckpointError, match="has image_size 336, expected 224"):
        teachers.load(f"clip-vit-l={tmp_path / 'large'}", 256, CPU)
    save(perturb(vit(patch_size=32)), tmp_path / "coarse")
    with pytest.raises(CheckpointError, match="has patch_size 32, expected 16: it is another teacher"):
        teachers.load(f"dinov1-vit-b={tmp_path / 'coarse'}", 256, CPU)


class Malicious:
    """A pickle of this runs a command when it is loaded the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_folder_or_file_is_executed(tmp_path: Path, images: Tensor) -> None:
    folder, trace = save(perturb(dinov2()), tmp_path / "dinov2"), tmp_path / "executed"
    described = json.loads((folder / "config.json").read_text())
    remote = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(described | remote))
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Config: pass\nclass Model: pass\n")
    torch.save({"w": Malicious(trace)}, folder / "pytorch_model.bin")
    assert teachers.load(f"dinov2-vit-b={folder}", 256, CPU)(images).isfinite().all()  # safetensors come first
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="do not fit"):
        teachers.load(f"dinov2-vit-b={folder}", 256, CPU)
    with pytest.raises(CheckpointError, match="nothing was executed"):
        teachers.load(f"mocov3-vit-b={folder / 'pytorch_model.bin'}", 256, CPU)
    assert not trace.exists()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_what_cannot_be_downloaded_asks_for_a_local_copy(offline: Path) -> None:
    message = "cannot get 'facebook/dinov2-base' .*: HF_HUB_OFFLINE .*; give a local copy by dinov2-vit-b=FOLDER"
    with pytest.raises(CheckpointError, match=message):
        teachers.load("dinov2-vit-b", 256, CPU)


def test_a_repository_that_a_recipe_names_is_not_fetched(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtrain.hub.reach", lambda: pytest.fail("the network was asked"))
    message = "not downloaded: fetch it by hf download some/mirror, or give a local copy by clip-vit-l=FOLDER"
    with pytest.raises(CheckpointError, match=message):
        teachers.load("clip-vit-l=some/mirror", 256, CPU)


@pytest.mark.parametrize("name", ["dinov2-vit-b", "mocov3-vit-b"])
def test_weights_in_the_hubs_cache_need_no_network(name: str, offline: Path, tmp_path: Path, images: Tensor) -> None:
    local = tmp_path / "local"
    if name == "dinov2-vit-b":
        save(perturb(dinov2()), local)
    else:  # a mirror of the official file, without a configuration
        mirror_folder(timm_state(24, 2), local)
        (local / "config.json").unlink()
    repository = offline / f"models--{teachers.TEACHERS[name].hub.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(local, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    cached, given = teachers.load(name, 256, CPU), teachers.load(f"{name}={local}", 256, CPU)
    assert cached.fingerprint == given.fingerprint
    assert torch.equal(cached(images), given(images))


def test_without_transformers_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"install it with: pip install 'dexport\[repa\]'"):
        teachers.load("dinov2-vit-b", 256, CPU)
    own_checkpoint(tmp_path, 1)
    assert teachers.load(str(tmp_path), 16, CPU).num_tokens == 16  # ours needs no more than PyTorch
