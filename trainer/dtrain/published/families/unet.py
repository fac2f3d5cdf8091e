"""The U-Nets of the aerial-imagery article, recognised by their keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from drun.bundle.card import Card, StateSpace
from drun.diffusion.process.discrete import SCHEDULES, DiscreteProcess
from drun.errors import CheckpointError, ConfigError
from dtrain.checkpoints.layouts import Selection, State, network_of
from dtrain.published.denoiser import Denoiser, state_shape
from dtrain.published.settings import refuse_others, whole_number

KNOWN = "a One-, Two- or AttentionUNet"
#: Keys beside a network's weights that follow from other settings: tables of the diffusion process, and counters.
BUFFERS = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_recip_alphas", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "posterior_variance", "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2", "loss_weight", "initted", "step",
}  # fmt: skip
#: Keys that only these nets have together.
_MARKERS = {"init_conv.weight", "time_mlp.1.weight", "final_conv.weight", "downs.0.0.in_conv.weight"}


def recognise(selection: Selection, given: Mapping[str, str]) -> Denoiser | None:
    """The denoiser, or None if the weights are of another family. Raises CheckpointError and ConfigError."""
    held, state, config = selection.held, selection.state, unet_config(selection.state)
    if config is None:
        return None
    name = config["name"]
    refuse_others(given, ("image_size", "schedule", "timesteps", "prediction"), f"a {name}")
    _check_channels(config, f"'{held.path}'")
    network = network_of(
        config, {key: value for key, value in state.items() if key not in BUFFERS}, f"'{held.path}', a {name},"
    )
    if "image_size" not in given:
        raise ConfigError(
            f"'{held.path}' does not say its image size: add --set image_size=128 (or what it was trained at)"
        )
    # The article's online weights lie beside the tables of its averaged weights.
    process, why = unet_process(state | held.tables, given)
    shape, _ = state_shape(network, None, given, 0)
    reasons = f"{name} by its keys, dim {config['dim']}, mults {config['dim_mults']}", why
    return Denoiser(
        network,
        config,
        Card(process, given.get("prediction", "noise"), StateSpace.of(shape)),
        held.step,
        selection.weights,
        selection.reasons + reasons,
    )


def unet_config(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The configuration of a One-, Two- or AttentionUNet, from the keys and shapes of its state dict, or None."""
    if not set(state) >= _MARKERS:
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
    """The given schedule, else the one whose betas the checkpoint holds, else linear; and how it is known."""
    known = len(tables["betas"]) if "betas" in tables else None
    timesteps = whole_number(given, "timesteps", known or 1000)
    if known not in (None, timesteps):
        raise ConfigError(f"--set timesteps got {timesteps}, the checkpoint has betas of {known}: leave it out")
    if "schedule" in given or known is None:
        process = DiscreteProcess(given.get("schedule", "linear"), timesteps)
        chosen = " and ".join(key for key in ("schedule", "timesteps") if key in given)
        how = f"{chosen} as set" if chosen else "assumed"
        return process, f"{process.schedule} schedule, {timesteps} timesteps: {how}"
    betas = tables["betas"].double().numpy()
    for schedule, make in SCHEDULES.items():
        if np.allclose(make(len(betas)), betas, rtol=2e-3, atol=5e-5):
            return DiscreteProcess(schedule, len(betas)), f"{schedule} schedule by its betas, {len(betas)} timesteps"
    raise CheckpointError(f"the checkpoint's betas fit no schedule of {', '.join(SCHEDULES)}: give --set schedule=…")


def _check_channels(config: Mapping[str, Any], name: str) -> None:
    if config["out_dim"] != config["channels"]:
        got = f"{config['out_dim']} channels for images of {config['channels']}"
        raise CheckpointError(f"{name} predicts {got}, expected as many: a learned variance is not known for U-Nets")
