"""Finds a transformer's configuration from the keys and shapes of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from drun.errors import CheckpointError, ConfigError
from dtrain.checkpoints.layouts import State
from dtrain.models.transformer.sizes import SIZES, Size, name_or_mapping
from dtrain.published.settings import whole_number

HEAD = "final_layer.linear.weight", "final_layer.linear.bias"
_PATCHES = "x_embedder.proj.weight"
_Q_NORM = "blocks.0.attn.q_norm.weight"
#: Keys that only these networks have together, and their numbers of dimensions.
_MARKERS = {
    "pos_embed": 3, "x_embedder.proj.weight": 4, "t_embedder.mlp.0.weight": 2, "t_embedder.mlp.2.weight": 2,
    "blocks.0.attn.qkv.weight": 2, "blocks.0.attn.proj.weight": 2, "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2, "blocks.0.adaLN_modulation.1.weight": 2, "final_layer.linear.weight": 2,
    "final_layer.adaLN_modulation.1.weight": 2,
}  # fmt: skip
#: Keys of weights that map from the width of the network.
_OF_WIDTH = (
    "t_embedder.mlp.2.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.0.mlp.fc1.weight",
    "blocks.0.adaLN_modulation.1.weight", "final_layer.linear.weight", "final_layer.adaLN_modulation.1.weight",
)  # fmt: skip


def known_transformer(state: State, given: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """The result of `transformer_config` for today's keys, with the number of heads known; None for other networks.

    Raises:
        CheckpointError: a transformer whose head fits neither its width nor its channels.
        ConfigError: the number of heads is not known and not set.
    """
    _check_head(state, path)
    config = transformer_config(state)
    if config is None:
        return None
    size = config["size"]
    if "num_heads" in given:
        hidden, depth = len(state[_PATCHES]), 1 + max(_block_indices(state))
        config["size"] = {"hidden_size": hidden, "depth": depth, "num_heads": whole_number(given, "num_heads", 1)}
    elif isinstance(size, dict) and size["num_heads"] is None:
        width = f"{size['depth']} blocks of width {size['hidden_size']}"
        raise ConfigError(
            f"'{path}' has {width}, which is no size of DiT or SiT, so its heads are not known: add --set num_heads=N"
        )
    return config


def transformer_config(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The configuration of the SiT or DiT that a state dict belongs to, or None for other networks.

    Args:
        state: tensors by key, without prefixes of wrappers; `projectors.*` and other foreign keys do not matter.

    Returns:
        The keywords of `SiT`, and out_channels: channels for a SiT, twice as many for a DiT, and either for the
        published SiT, whose second half of output channels is unused (see `fold_head`). Where neither the shapes nor
        `SIZES` say the number of heads, `size["num_heads"]` is None.
    """
    if any(key not in state or state[key].ndim != ndim for key, ndim in _MARKERS.items()):
        return None
    hidden, channels, patch = state["x_embedder.proj.weight"].shape[:3]
    num_tokens, num_rows = state["pos_embed"].shape[1], state["final_layer.linear.weight"].shape[0]
    side = math.isqrt(num_tokens)
    widths = {tuple(state[key].shape[1:]) for key in _OF_WIDTH} | {tuple(state["pos_embed"].shape[2:])}
    if widths != {(hidden,)} or side**2 != num_tokens or num_rows % patch**2:
        return None
    labels = state.get("y_embedder.embedding_table.weight")
    num_labels = 0 if labels is None else len(labels)
    # A table of one row can have no null label: there would be no class beside it.
    null_class = num_labels != 1
    return {
        "input_size": side * patch,
        "size": _size_of(state, hidden),
        "patch_size": patch,
        "channels": channels,
        "num_classes": max(num_labels - null_class, 0),
        "null_class": null_class,
        "qk_norm": _Q_NORM in state,
        "out_channels": num_rows // patch**2,
    }


def fold_head(weight_or_bias: Tensor, patch_size: int, channels: int, keep: int) -> Tensor:
    """The rows of `final_layer.linear` that make the first `keep` of its `channels` output channels.

    Args:
        weight_or_bias: (patch_size^2 channels, ...); row (i patch_size + j) channels + c makes channel c of the
            pixel in row i, column j of a patch.

    Returns:
        (patch_size^2 keep, ...), a copy.

    Raises:
        ConfigError: another number of rows, or `keep` not in 1 .. channels.
    """
    expected = patch_size**2 * channels
    if len(weight_or_bias) != expected:
        raise ConfigError(
            f"the head has the wrong size: got {len(weight_or_bias)} rows, expected {expected} for {channels} channels "
            f"and patch_size {patch_size}; check both"
        )
    if not 1 <= keep <= channels:
        raise ConfigError(f"keep got {keep}, expected 1 to {channels}, the output channels of the head")
    by_channel = weight_or_bias.reshape(patch_size**2, channels, *weight_or_bias.shape[1:])
    return by_channel[:, :keep].flatten(0, 1).clone()


def _size_of(state: Mapping[str, Tensor], hidden: int) -> str | dict[str, Any]:
    depth = 1
    while f"blocks.{depth}.attn.qkv.weight" in state:
        depth += 1
    if _Q_NORM in state:
        return name_or_mapping(Size(hidden, depth, hidden // len(state[_Q_NORM])))
    for name, size in SIZES.items():
        if (size.hidden_size, size.depth) == (hidden, depth):
            return name
    return {"hidden_size": hidden, "depth": depth, "num_heads": None}


def _block_indices(state: Mapping[str, Tensor]) -> list[int]:
    return [int(key.split(".")[1]) for key in state if key.startswith("blocks.") and key.split(".")[1].isdecimal()]


def _check_head(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise an error about a wrong head, if everything else fits a transformer."""
    patches, head = state.get(_PATCHES), state.get(HEAD[0])
    is_transformer = "pos_embed" in state and "t_embedder.mlp.0.weight" in state
    if not is_transformer or patches is None or head is None or (patches.ndim, head.ndim) != (4, 2):
        return
    hidden, channels, patch = patches.shape[:3]
    num_rows, width = head.shape
    if width != hidden:
        raise CheckpointError(
            f"'{path}' has a final layer of width {width} on blocks of width {hidden}, as REPA's SiT-S, which its own "
            "code cannot run: expected the same width, so train another size, or SiT-S by dtrain"
        )
    pixels = patch**2
    if num_rows not in (channels * pixels, 2 * channels * pixels):
        raise CheckpointError(
            f"'{path}' has a head of {num_rows} rows, expected {channels * pixels} ({channels} channels for each of "
            f"{pixels} pixels of a patch) or {2 * channels * pixels} (with a variance): this network is not known here"
        )


def without_dead_rows(state: State, config: Mapping[str, Any]) -> State:
    """The rows of a doubled head that predict: published SiTs never used the other half."""
    patch, channels = config["patch_size"], config["channels"]
    num_rows = 2 * channels * patch**2
    fits = [key for key in HEAD if key in state and state[key].shape[:1] == (num_rows,)]
    return state | {key: fold_head(state[key], patch, 2 * channels, channels) for key in fits}
