"""Networks recognised from the keys and shapes of their state dicts: our U-Nets, and DiT, SiT and REPA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from drun.diffusion.process.discrete import SCHEDULES, DiscreteProcess
from drun.errors import CheckpointError, ConfigError
from dtrain.checkpoints.layouts import State
from dtrain.published.settings import whole_number
from dtrain.published.shapes import fold_head, transformer_config

#: Tables of the diffusion process and counters that lie beside a network's weights, and follow from other things.
BUFFERS = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_recip_alphas", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "posterior_variance", "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2", "loss_weight", "initted", "step",
}  # fmt: skip
HEAD = "final_layer.linear.weight", "final_layer.linear.bias"
PATCHES = "x_embedder.proj.weight"


def unet_config(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The configuration of a One-, Two- or AttentionUNet, from the keys and shapes of its state dict, or None."""
    if not {"init_conv.weight", "time_mlp.1.weight", "final_conv.weight", "downs.0.0.in_conv.weight"} <= set(state):
        return None
    init_dim, channels = state["init_conv.weight"].shape[:2]
    dim = state["time_mlp.1.weight"].shape[1]
    num_levels = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("downs."))
    keys = [f"downs.{i}.2.net.1.weight" for i in range(num_levels - 1)] + [f"downs.{num_levels - 1}.2.weight"]
    if not set(keys) <= set(state):
        return None
    widths = [state[key].shape[0] for key in keys]
    gated = "ups.0.0.gate_conv.weight" in state
    two_skips = gated or "ups.0.1.residual_conv.weight" in state
    return {
        "name": "AttentionUNet" if gated else "TwoResUNet" if two_skips else "OneResUNet",
        "dim": dim, "init_dim": init_dim, "out_dim": state["final_conv.weight"].shape[0],
        "dim_mults": [width // dim for width in widths], "channels": channels,
    }  # fmt: skip


def unet_process(tables: State, given: Mapping[str, str]) -> tuple[DiscreteProcess, str]:
    """The schedule: as given, else the one whose betas the checkpoint carries, else linear; and how it is known."""
    if "schedule" in given or "betas" not in tables:
        timesteps = whole_number(given, "timesteps", 1000)
        process = DiscreteProcess(given.get("schedule", "linear"), timesteps)
        why = "as set" if "schedule" in given else "assumed"
        return process, f"{process.schedule} schedule, {timesteps} timesteps: {why}"
    betas = tables["betas"].double().numpy()
    for schedule, make in SCHEDULES.items():
        if np.allclose(make(len(betas)), betas, rtol=2e-3, atol=5e-5):
            return DiscreteProcess(schedule, len(betas)), f"{schedule} schedule by its betas, {len(betas)} timesteps"
    raise CheckpointError(f"the checkpoint's betas fit no schedule of {', '.join(SCHEDULES)}: give --set schedule=…")


def sampling_keys(state: State) -> tuple[State, tuple[str, ...]]:
    """A transformer's weights under today's keys and without REPA's projectors, and what was done to them.

    Early REPA called the blocks after the aligned one `decoder_blocks`; projectors are used in training only.
    """
    notes = []
    if depth := _num_decoder_blocks(state):
        first = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        state = {_today(key, first): value for key, value in state.items()}
        notes.append(f"decoder_blocks 0 to {depth - 1} are blocks {first} to {first + depth - 1}: REPA's early layout")
    notes += projector_notes(state)
    return {key: value for key, value in state.items() if not key.startswith("projectors.")}, tuple(notes)


def projector_notes(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What is said of REPA's projectors, if there are any: the widths of the teachers that they map to."""
    if not (dims := _projector_dims(state)):
        return ()
    teachers = "a teacher" if len(dims) == 1 else f"{len(dims)} teachers"
    return (f"projectors to {teachers} of {', '.join(map(str, dims))} dimensions dropped: they are for training",)


def _projector_dims(state: Mapping[str, Tensor]) -> list[int]:
    rows: dict[str, tuple[int, int]] = {}
    for key, value in state.items():
        name, index, layer, *_ = [*key.split("."), "", ""]
        if name == "projectors" and value.ndim:
            # The last layer of an MLP; a convolution has no number.
            rows[index] = max(rows.get(index, (-1, 0)), (int(layer) if layer.isdecimal() else -1, len(value)))
    return [dim for _, (_, dim) in sorted(rows.items())]


def _num_decoder_blocks(state: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in state if key.startswith("decoder_blocks.")})


def _today(key: str, first: int) -> str:
    name, _, rest = key.partition(".")
    index, _, rest = rest.partition(".")
    return f"blocks.{first + int(index)}.{rest}" if name == "decoder_blocks" and index.isdecimal() else key


def known_transformer(state: State, given: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    """What `transformer_config` says of a state dict under today's keys, with all heads known; None for other nets.

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
        hidden, depth = len(state[PATCHES]), 1 + max(_block_indices(state))
        config["size"] = {"hidden_size": hidden, "depth": depth, "num_heads": whole_number(given, "num_heads", 1)}
    elif isinstance(size, dict) and size["num_heads"] is None:
        width = f"{size['depth']} blocks of width {size['hidden_size']}"
        raise ConfigError(f"'{path}' has {width}, which is no size of DiT or SiT, so its heads are not known: "
                          "add --set num_heads=N")  # fmt: skip
    return config


def _block_indices(state: Mapping[str, Tensor]) -> list[int]:
    return [int(key.split(".")[1]) for key in state if key.startswith("blocks.") and key.split(".")[1].isdecimal()]


def _check_head(state: Mapping[str, Tensor], path: Path) -> None:
    """Say what is wrong with a head that makes no network, where that is all that is wrong."""
    patches, head = state.get(PATCHES), state.get(HEAD[0])
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
    """Only the rows of a head of 2 channels for each of the input that predict: published SiTs never used the rest."""
    patch, channels = config["patch_size"], config["channels"]
    num_rows = 2 * channels * patch**2
    fits = [key for key in HEAD if key in state and state[key].shape[:1] == (num_rows,)]
    return state | {key: fold_head(state[key], patch, 2 * channels, channels) for key in fits}
