"""Loads a published teacher's network from a folder, a file or the Hugging Face hub, and executes nothing in it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drun.errors import CheckpointError, ConfigError, door
from drun.foreign import read_json
from dtrain import hub
from dtrain.checkpoints.tensors import read_tensors
from dtrain.teachers.families import Variant
from dtrain.teachers.official import State, convert

#: The weight files of a folder, the best first: safetensors hold no code.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: The largest number in a config.json, far above those of any teacher.
_LARGEST, _MOST_LAYERS = 1 << 16, 256


def load_network(name: str, variant: Variant, location: str, image_size: int) -> Any:
    """The network of teacher `name`, float32 on the CPU, whose position embedding fits the grid.

    Args:
        location: a folder in the layout of save_pretrained, an official checkpoint file, a hub id that was fetched
            before, or empty for the published weights, which are fetched.
        image_size: side of the images in pixels.

    Returns:
        An object of the class `variant.family.model` of transformers; what precedes its features is all in it.

    Raises:
        ConfigError: transformers is not installed, an image size that it cannot take, or no published weights.
        CheckpointError: weights that are missing, damaged, of another class, or do not fit.
    """
    input_size = variant.family.input_size(image_size, name)
    library = load_transformers()
    path = _find(name, variant, location)
    network = _build(library, variant, path)
    _check(network.config, variant, path, input_size)
    if variant.family.resample:
        _fit_positions(network.embeddings, input_size // variant.family.patch_size, input_size)
    if not variant.family.final_norm:
        network.layernorm = nn.Identity()
    return network


def resample_positions(table: Tensor, grid: int) -> Tensor:
    """A position embedding for another grid: (1, 1 + G*G, D) -> (1, 1 + grid*grid, D), the class token's kept.

    Bicubic with antialiasing, in float32, as resample_abs_pos_embed of timm, which REPA calls once at loading.
    """
    prefix, patches = table[:, :1], table[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return table
    square = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([prefix, resized.permute(0, 2, 3, 1).reshape(1, grid * grid, -1).to(table.dtype)], dim=1)


def _fit_positions(embeddings: Any, grid: int, input_size: int) -> None:
    """Resample the embedding itself: the library finds as many positions as patches, and leaves it alone."""
    resampled = resample_positions(embeddings.position_embeddings.detach(), grid)
    embeddings.position_embeddings = nn.Parameter(resampled)
    embeddings.image_size = (input_size, input_size)  # ViT refuses images of another size


def _check(config: Any, variant: Variant, path: Path, input_size: int) -> None:
    expected = {"patch_size": variant.family.patch_size, "num_channels": 3}
    if not variant.family.resample:
        expected["image_size"] = input_size
    for key, value in expected.items():
        if getattr(config, key) != value:
            raise CheckpointError(f"'{path}' has {key} {getattr(config, key)}, expected {value}: it is another teacher")


# ---- the network --------------------------------------------------------------------------------------------


def _build(library: Any, variant: Variant, path: Path) -> Any:
    family = variant.family
    kind = getattr(library, family.model)
    folder = path if path.is_dir() and _model_type(path, variant) else None
    with _quiet(library), door(f"the weights in '{path}' do not fit", CheckpointError):
        if folder:
            state, config = None, kind.config_class.from_pretrained(folder, layer_norm_eps=family.epsilon)
        else:
            fields, state = _official(variant, path)
            config = kind.config_class(**fields, layer_norm_eps=family.epsilon)
        _check_size(kind, config, path)
        options = {"add_pooling_layer": False} if family.model == "ViTModel" else {}
        network, found = kind.from_pretrained(
            folder,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    for key, got, expected in sorted(found["mismatched_keys"]):
        shapes = f"'{key}' got {tuple(got)}, expected {tuple(expected)}"
        raise CheckpointError(f"'{path}' does not fit a {family.model} of its configuration: {shapes}")
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"'{path}' does not fit a {family.model}: it lacks '{missing[0]}'")
    return network


def _check_size(kind: Any, config: Any, path: Path) -> None:
    """Raises ValueError for a network larger than its weights file, for which the library would take memory."""
    for key, value in config.to_dict().items():
        if isinstance(value, int) and abs(value) > (_MOST_LAYERS if key == "num_hidden_layers" else _LARGEST):
            raise ValueError(f"its {key} {value} is out of range")
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix in (".safetensors", ".bin")]
    with torch.device("meta"):
        num_weights = sum(parameter.numel() for parameter in kind(config).parameters())
    num_bytes = sum(file.stat().st_size for file in files)
    if files and num_weights > num_bytes:
        raise ValueError(f"its configuration needs {num_weights:,} weights, its files have {num_bytes:,} bytes")


def _model_type(folder: Path, variant: Variant) -> str:
    """The kind of network that config.json names, which must be one of the family's; empty if it names none."""
    path = folder / "config.json"
    config = read_json(path, CheckpointError, "copy the folder again") if path.exists() else {}
    got = config.get("model_type", "")
    if got and got not in variant.family.model_types:
        raise CheckpointError(f"'{folder}' holds a '{got}', expected a '{variant.family.model_types[0]}'")
    return str(got)


def _official(variant: Variant, path: Path) -> tuple[dict[str, Any], State]:
    file = path if path.is_file() else next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if not variant.num_heads or file is None:
        raise CheckpointError(f"'{path}' was not written by save_pretrained: expected a folder with a config.json")
    content = read_tensors(file, allowed=(argparse.Namespace,))  # the options of a training run
    return convert(content, variant.num_heads, f"'{file}'")


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Switch off progress bars and the table of keys that a teacher does not use."""
    log = library.logging
    verbosity, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if had_bars:
            log.enable_progress_bar()


def load_transformers() -> Any:
    """The module `transformers`. Raises ConfigError with the install line where there is none."""
    try:
        return import_module("transformers")
    except ImportError as error:
        message = "published teachers need the package transformers"
        raise ConfigError(f"{message}: install it with: pip install 'dexport[repa]'") from error


# ---- where the weights are ----------------------------------------------------------------------------------


def _find(name: str, variant: Variant, location: str) -> Path:
    if not location and not variant.hub:
        raise ConfigError(f"teacher '{name}' is on no hub: give its official checkpoint by {name}=FILE")
    if location and Path(location).exists():
        return Path(location)
    repository = location or variant.hub
    if not hub.is_name(repository):
        raise CheckpointError(f"no such file or folder: '{location}', given as the weights of teacher '{name}'")
    load_transformers()  # checked first: without it a download would be in vain
    advice = f"give a local copy by {name}=FOLDER"
    if location:  # a recipe may come from anybody, but the table of teachers is ours
        advice = f"fetch it by hf download {location}, or {advice}"
    return hub.folder(repository, WEIGHTS, fetch=not location, kind=CheckpointError, advice=advice)
