"""A published teacher's network, from a local folder or file or the Hugging Face hub; nothing in it is executed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drun.errors import CheckpointError, ConfigError
from dtrain.checkpoints.tensors import read_tensors
from dtrain.teachers.families import Variant
from dtrain.teachers.official import State, convert

#: Weight files of a folder, best first: safetensors hold no code.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load_network(name: str, variant: Variant, location: str, image_size: int) -> Any:
    """The network of teacher `name`, float32 on the CPU, whose position embedding fits the grid.

    Args:
        location: a folder in the layout of save_pretrained, an official checkpoint file, a hub id, or empty for
            the published weights.
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
    with _quiet(library), _errors_of(path):
        if folder:
            state, config = None, kind.config_class.from_pretrained(folder, layer_norm_eps=family.epsilon)
        else:
            fields, state = _official(variant, path)
            config = kind.config_class(**fields, layer_norm_eps=family.epsilon)
        options = {"add_pooling_layer": False} if family.model == "ViTModel" else {}
        network, found = kind.from_pretrained(
            folder, config=config, state_dict=state, dtype=torch.float32, attn_implementation="sdpa",
            local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    for key, got, expected in sorted(found["mismatched_keys"]):
        shapes = f"'{key}' got {tuple(got)}, expected {tuple(expected)}"
        raise CheckpointError(f"'{path}' does not fit a {family.model} of its configuration: {shapes}")
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"'{path}' does not fit a {family.model}: it lacks '{missing[0]}'")
    return network


def _model_type(folder: Path, variant: Variant) -> str:
    """The kind of network that config.json names, one of the family's; empty: it names none."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not JSON ({error}): copy the folder again") from error
    got = config.get("model_type", "") if isinstance(config, dict) else ""
    if got and got not in variant.family.model_types:
        raise CheckpointError(f"'{folder}' holds a '{got}', expected a '{variant.family.model_types[0]}'")
    return str(got)


def _official(variant: Variant, path: Path) -> tuple[dict[str, Any], State]:
    file = path if path.is_file() else next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if not variant.num_heads or file is None:
        raise CheckpointError(f"'{path}' was not written by save_pretrained: expected a folder with a config.json")
    content = read_tensors(file, allowed=(argparse.Namespace,))  # of the options of a training run
    return convert(content, variant.num_heads, f"'{file}'")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # transformers raises many classes for what it cannot read
        raise CheckpointError(f"the weights in '{path}' do not fit: {_sentence(error)}") from error


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """No progress bars, no retries on the terminal, no table of the keys that a teacher has no use for."""
    logs = (library.logging, import_module("huggingface_hub.utils.logging"))
    verbosities, bars = [log.get_verbosity() for log in logs], library.logging.is_progress_bar_enabled()
    for log in logs:
        log.set_verbosity(log.CRITICAL)
    library.logging.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity in zip(logs, verbosities, strict=True):
            log.set_verbosity(verbosity)
        if bars:
            library.logging.enable_progress_bar()


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
    path = Path(location or variant.hub)
    if location and path.exists():
        return path
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(?<!\.pth|\.tar)(?<!\.pt)(?<!\.safetensors)", str(path)):
        raise CheckpointError(f"no such file or folder: '{location}', given as the weights of teacher '{name}'")
    return _download(name, str(path))


def _download(name: str, repository: str) -> Path:
    """The folder of the local cache that holds a repository's weights and configuration, if it has one."""
    library, hub = load_transformers(), import_module("huggingface_hub")
    try:
        with _quiet(library):
            weights = Path(_fetch(hub, repository, WEIGHTS, None))
            with suppress(hub.errors.EntryNotFoundError):  # a copy of an official checkpoint needs none
                _fetch(hub, repository, ("config.json",), weights.parent.name)
    except (OSError, ValueError, hub.errors.EntryNotFoundError) as error:
        failed = f"cannot download '{repository}' from the Hugging Face hub ({_sentence(error)})"
        raise CheckpointError(f"{failed}: give a local copy by {name}=FOLDER") from error
    return weights.parent


def _fetch(hub: Any, repository: str, names: tuple[str, ...], revision: str | None) -> str:
    """The first of the files that is in the local cache, else that the repository has."""
    for file in names:
        with suppress(hub.errors.LocalEntryNotFoundError):
            return str(hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
    for file in names[:-1]:
        with suppress(hub.errors.RemoteEntryNotFoundError):  # unlike other errors: the repository is there
            return str(hub.hf_hub_download(repository, file, revision=revision))
    return str(hub.hf_hub_download(repository, names[-1], revision=revision))


def _sentence(error: Exception) -> str:
    """The first line of a message, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")
