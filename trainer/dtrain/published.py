"""Checkpoints of every layout we know, recognised from their keys and shapes: what the network is, and its weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from drun import process as processes
from drun.errors import CheckpointError, ConfigError
from drun.process import SCHEDULES, DiscreteProcess
from dtrain import checkpoint, models

#: What `--set` may say about a checkpoint.
SETTINGS = ("image_size", "schedule", "timesteps", "prediction")
WEIGHTS = ("ema", "online")
#: Prefixes that wrappers put before every key.
PREFIXES = ("module.", "_orig_mod.", "ema_model.", "online_model.", "model.")

#: Tables of the diffusion process and counters that lie beside a network's weights, and follow from other things.
BUFFERS = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_recip_alphas", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "posterior_variance", "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2", "loss_weight", "initted", "step",
}  # fmt: skip

State = dict[str, Tensor]


@dataclass(frozen=True)
class Denoiser:
    """A network in eval mode with all that its weights do not say."""

    network: nn.Module
    config: dict[str, Any]          # for dtrain.models.build
    process: DiscreteProcess
    prediction: str
    image_shape: tuple[int, int, int]
    step: int
    weights: str                    # ema | online
    reasons: tuple[str, ...]        # what was recognised, and from what


def load(path: Path, weights: str = "ema", settings: Mapping[str, str] | None = None) -> Denoiser:
    """Read a checkpoint of ours, of the aerial-imagery article, or a bare state dict of its U-Nets.

    Args:
        weights: `ema` or `online`.
        settings: what the file does not say: image_size (pixels), schedule, timesteps, prediction.

    Raises:
        CheckpointError: unreadable, unsafe or not recognised. ConfigError: a missing or wrong setting.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"--weights got '{weights}', expected ema or online")
    given = dict(settings or {})
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise ConfigError(f"--set got '{unknown[0]}', expected one of {', '.join(SETTINGS)}")
    content = checkpoint.read_tensors(path, allowed=(argparse.Namespace,))
    if checkpoint.is_ours(content):
        return _ours(checkpoint.parse(content, path), weights, given)
    return _foreign(content, path, weights, given)


def _ours(saved: checkpoint.Checkpoint, weights: str, given: dict[str, str]) -> Denoiser:
    recipe = saved.recipe
    network = models.build(recipe.model)
    _fill(network, saved.ema if weights == "ema" else saved.model, f"a checkpoint of recipe {recipe.name}")
    size = _whole_number(given, "image_size", recipe.data.image_size)
    return Denoiser(
        network.eval(),
        dict(recipe.model),
        processes.from_dict(recipe.process),
        str(recipe.objective.get("prediction", "noise")),
        (int(recipe.model.get("channels", 3)), size, size),
        saved.step,
        weights,
        (f"a checkpoint of dtrain, recipe {recipe.name}", f"{weights} weights"),
    )


def _foreign(content: Any, path: Path, weights: str, given: dict[str, str]) -> Denoiser:
    state, taken, reasons = _pick(content, path, weights)
    bare = _strip(state)
    config = unet_config(bare)
    if config is None:
        raise CheckpointError(
            f"'{path}' holds no network that is known here: its keys start with '{next(iter(bare), 'nothing')}'; "
            "expected a checkpoint of dtrain or a One-, Two- or AttentionUNet"
        )
    if config["out_dim"] != config["channels"]:
        got = f"{config['out_dim']} channels for images of {config['channels']}"
        raise CheckpointError(f"'{path}' predicts {got}, expected as many: a learned variance is not known for U-Nets")
    network = models.build(config)
    _fill(network, {key: value for key, value in bare.items() if key not in BUFFERS}, f"'{path}', a {config['name']},")
    if "image_size" not in given:
        raise ConfigError(f"'{path}' does not say its image size: add --set image_size=128 (or what it was trained at)")
    size = _whole_number(given, "image_size", 0)
    # The article's online weights lie beside the tables of its averaged ones.
    process, why = _process(bare | _strip(content.get("ema", {})), given)
    return Denoiser(
        network.eval(), config, process, given.get("prediction", "noise"), (config["channels"], size, size),
        int(content.get("step", 0)) if isinstance(content.get("step"), int) else 0, taken,
        (*reasons, f"{config['name']} by its keys, dim {config['dim']}, mults {config['dim_mults']}", why),
    )  # fmt: skip


def _fill(network: nn.Module, state: State, name: str) -> None:
    """Load weights, all of them and no others. Raises CheckpointError naming the first that does not fit."""
    expected = network.state_dict()
    for key in [*expected, *state]:
        got = tuple(state[key].shape) if key in state else "nothing"
        wanted = tuple(expected[key].shape) if key in expected else "nothing"
        if got != wanted:
            raise CheckpointError(f"{name} does not fit its network: '{key}' got {got}, expected {wanted}")
    network.load_state_dict(state)


def _pick(content: Any, path: Path, weights: str) -> tuple[State, str, tuple[str, ...]]:
    """The chosen state dict among those in the file, which weights they are, and why."""
    if not isinstance(content, dict):
        raise CheckpointError(f"'{path}' holds {type(content).__name__}, expected a dictionary of tensors")
    for key in ("ema", "model") if weights == "ema" else ("model",):
        inner = content.get(key)
        if isinstance(inner, dict):
            averaged = {name: value for name, value in inner.items() if name.startswith("ema_model.")}
            return averaged or inner, "ema" if key == "ema" else "online", (f"'{key}' of a training checkpoint",)
    return content, "online", ("a bare state dict",)


def _strip(state: Mapping[str, Any]) -> State:
    """Keys without wrappers' prefixes; non-tensors dropped."""
    bare = {}
    for key, value in state.items():
        while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
            key = key.removeprefix(prefix)
        if isinstance(value, Tensor):
            bare[key] = value
    return bare


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


def _process(state: State, given: dict[str, str]) -> tuple[DiscreteProcess, str]:
    """The schedule: as given, else the one whose betas the checkpoint carries, else linear."""
    if "schedule" in given or "betas" not in state:
        timesteps = _whole_number(given, "timesteps", 1000)
        process = DiscreteProcess(given.get("schedule", "linear"), timesteps)
        why = "as set" if "schedule" in given else "assumed"
        return process, f"{process.schedule} schedule, {timesteps} timesteps: {why}"
    betas = state["betas"].double().numpy()
    for schedule, make in SCHEDULES.items():
        if np.allclose(make(len(betas)), betas, rtol=2e-3, atol=5e-5):
            return DiscreteProcess(schedule, len(betas)), f"{schedule} schedule by its betas, {len(betas)} timesteps"
    raise CheckpointError(f"the checkpoint's betas fit no schedule of {', '.join(SCHEDULES)}: give --set schedule=…")


def _whole_number(given: Mapping[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--set {key} got '{text}', expected a whole number above 0")
    return int(text)
