"""Checkpoints of every layout we know, recognised from their keys and shapes: what the network is, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from drun.bundle.card import Classes, Latent, Sampler
from drun.bundle.hashes import check_same, hashed
from drun.bundle.manifest import TrainedOn
from drun.diffusion import process as processes
from drun.diffusion.prediction import LEARNED_RANGE
from drun.diffusion.process import Process
from drun.errors import CheckpointError, ConfigError, UserError, door
from drun.typed import typed
from dtrain import models, objectives
from dtrain.averages import initial_share
from dtrain.checkpoints import layouts
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.layouts import Held, State
from dtrain.checkpoints.tensors import existing
from dtrain.config import Data, Recipe
from dtrain.models.transformer import SiT
from dtrain.published import conventions, recognise
from dtrain.published.settings import check, refuse_others, whole_number

WEIGHTS = ("ema", "online")
#: What DiT, SiT and REPA decode with; its scale is also that of the autoencoder that they encode with.
LATENT = Latent(vae="stabilityai/sd-vae-ft-ema", scale=(0.18215,) * 4, bias=(0.0,) * 4)
#: Pixels along a side for each of the latent.
LATENT_FACTOR = 8


@dataclass(frozen=True)
class Denoiser:
    """A network in eval mode with all that its weights do not say."""

    network: nn.Module
    config: dict[str, Any]  # for dtrain.models.build
    process: Process
    prediction: str
    image_shape: tuple[int, int, int]  # (C, H, W) of one state: pixels, or latents
    step: int
    weights: str  # ema | online
    reasons: tuple[str, ...]  # what was recognised, and from what
    variance: str | None = None  # see drun.diffusion.prediction.LEARNED_RANGE
    classes: Classes | None = None
    guided_channels: int | None = None  # how many leading ones the paper guides; None: all
    latent: Latent | None = None  # None: the states are pixels
    sampler: Sampler = field(default_factory=lambda: Sampler("ddpm", {"clip_x0": True}))
    settings: dict[str, str] = field(default_factory=dict)  # what was said to `load`
    sha256: str = ""  # of the file, if `load` read it
    trained_on: TrainedOn | None = None  # where the checkpoint says it
    initial_share: float | None = None  # of the initial weights in averaged ones of ours, 0 to 1


def load(path: Path, weights: str = "ema", settings: Mapping[str, str] | None = None) -> Denoiser:
    """Read a checkpoint of ours, of DiT, SiT, REPA or the aerial-imagery article, or a bare state dict of these nets.

    Args:
        weights: `ema` or `online`.
        settings: what the file does not say (see `dtrain.published.settings`): image_size (pixels), schedule,
            timesteps, prediction; of transformers process (dit, sit or repa), path and num_heads.

    Raises:
        CheckpointError: unreadable, unsafe or not recognised. ConfigError: a missing or wrong setting.
    """
    given = dict(settings or {})
    digest, stamp = hashed(existing(path))
    denoiser = recognised(layouts.read(path), path, weights, given)
    check_same(path, stamp)
    return replace(denoiser, settings=given, sha256=digest)


def recognised(content: Any, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    """As `load`, from what `layouts.read` gave."""
    if weights not in WEIGHTS:
        raise ConfigError(f"--weights got '{weights}', expected ema or online")
    check(given)
    with door(f"'{path}' holds a network that cannot be built", CheckpointError, passing=UserError):
        if checkpoint.is_ours(content):
            return _ours(checkpoint.parse(content, path), path, weights, given)
        return _others(content, path, weights, given)


# ---- ours ---------------------------------------------------------------------------------------------------
def _ours(saved: checkpoint.Checkpoint, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    recipe = saved.recipe
    if is_teacher(recipe.model):
        raise CheckpointError(
            f"'{path}' holds a {recipe.model['name']}, which classifies images: it is a teacher, not a denoiser; "
            "see dtrain inspect"
        )
    refuse_others(given, ("image_size",), f"'{path}', whose recipe says all else")
    state = own_state(saved, weights)
    network = layouts.network_of(recipe.model, state, f"a checkpoint of recipe {recipe.name}")
    process, latent = processes.from_dict(recipe.process), _latent(recipe.data.latent)
    name = f"a checkpoint of dtrain, recipe {recipe.name}"
    reasons = (name, f"{weights} weights", *recognise.projector_notes(saved.objective))
    if isinstance(network, SiT):
        shape, notes = _state_shape(network, latent, given)
        variance = LEARNED_RANGE if network.out_channels == 2 * network.channels else None
    else:
        size = whole_number(given, "image_size", recipe.data.image_size)
        shape, notes, variance = (int(recipe.model.get("channels", 3)), size, size), (), None
    if latent is not None and {len(latent["scale"]), len(latent["bias"])} != {shape[0]}:
        raise CheckpointError(f"'{path}' has not one scale and bias for each of its {shape[0]} channels: it is damaged")
    return Denoiser(
        network, dict(recipe.model), process, objectives.prediction(recipe.objective), shape, saved.step, weights,
        reasons + notes, variance, _own_classes(network, recipe.data), None, latent,
        conventions.default_sampler(process, variance, clip_x0=latent is None), trained_on=_trained_on(recipe),
        initial_share=initial_share(recipe.ema, saved.step) if weights == "ema" else None,
    )  # fmt: skip


def is_teacher(config: Mapping[str, Any]) -> bool:
    """Whether a model's configuration is of a classifier, whose features others learn from."""
    name = config.get("name")
    return isinstance(name, str) and getattr(models.available().get(name), "predicts", "image") == "class"


def own_state(saved: checkpoint.Checkpoint, weights: str) -> State:
    """The network's weights in a checkpoint of ours."""
    return saved.ema if weights == "ema" else saved.model


def _latent(fields: Mapping[str, Any]) -> Latent | None:
    """The recipe's data.latent. Raises ValueError where it is wrong."""
    latent: Latent | None = typed(Latent, dict(fields), "data.latent") if fields else None
    return latent


# ---- others' ------------------------------------------------------------------------------------------------


def _others(content: Any, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    held = layouts.unpack(content, path)
    taken, state, reasons = layouts.select(held, weights)
    if config := recognise.unet_config(state):
        return _unet(held, taken, state, config, given, reasons)
    raw = state
    state, notes = recognise.sampling_keys(raw)
    if config := recognise.known_transformer(state, given, path):
        return _transformer(held, taken, raw, state, config, given, reasons + notes)
    raise CheckpointError(
        f"'{path}' holds no network that is known here: its keys start with '{next(iter(state), 'nothing')}'; "
        "expected a checkpoint of dtrain, a DiT, SiT or REPA, or a One-, Two- or AttentionUNet"
    )


def _unet(
    held: Held, taken: str, state: State, config: dict[str, Any], given: Mapping[str, str], reasons: tuple[str, ...]
) -> Denoiser:
    path = held.path
    refuse_others(given, ("image_size", "schedule", "timesteps", "prediction"), f"a {config['name']}")
    if config["out_dim"] != config["channels"]:
        got = f"{config['out_dim']} channels for images of {config['channels']}"
        raise CheckpointError(f"'{path}' predicts {got}, expected as many: a learned variance is not known for U-Nets")
    own = {key: value for key, value in state.items() if key not in recognise.BUFFERS}
    network = layouts.network_of(config, own, f"'{path}', a {config['name']},")
    if "image_size" not in given:
        raise ConfigError(f"'{path}' does not say its image size: add --set image_size=128 (or what it was trained at)")
    size = whole_number(given, "image_size", 0)
    # The article's online weights lie beside the tables of its averaged ones.
    process, why = recognise.unet_process(state | held.tables, given)
    return Denoiser(
        network, config, process, given.get("prediction", "noise"), (config["channels"], size, size), held.step, taken,
        (*reasons, f"{config['name']} by its keys, dim {config['dim']}, mults {config['dim_mults']}", why),
    )  # fmt: skip


def _transformer(
    held: Held, taken: str, raw: State, state: State, config: dict[str, Any], given: Mapping[str, str],
    reasons: tuple[str, ...],
) -> Denoiser:  # fmt: skip
    channels, doubled = config["channels"], config.pop("out_channels") == 2 * config["channels"]
    num_rows = len(state[recognise.HEAD[0]])
    evidence = conventions.Evidence(held.path, raw.keys(), held.args, channels, num_rows, doubled)
    meaning = conventions.decide(evidence, given)
    if doubled and not meaning.variance:
        state = recognise.without_dead_rows(state, config)
    name = "DiT" if meaning.variance else "SiT"
    network = layouts.network_of({"name": name, **config}, state, f"'{held.path}', a {name},")
    assert isinstance(network, SiT)
    latent = LATENT if channels == len(LATENT["scale"]) else None
    shape, notes = _state_shape(network, latent, given)
    return Denoiser(
        network, network.config, meaning.process, meaning.prediction, shape, held.step, taken,
        reasons + meaning.reasons + _space(latent) + notes, meaning.variance, _classes(network),
        meaning.guided_channels, latent, conventions.default_sampler(meaning.process, meaning.variance, clip_x0=False),
    )  # fmt: skip


def _state_shape(
    network: SiT, latent: Latent | None, given: Mapping[str, str]
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """(C, H, W) of a state; and a note where a setting says otherwise, for a transformer has one size only."""
    side = network.input_size
    pixels = side * (LATENT_FACTOR if latent else 1)
    size = whole_number(given, "image_size", pixels)
    notes = () if size == pixels else (f"image_size={size} ignored: the positions in it are of {pixels} pixels",)
    return (network.channels, side, side), notes


def _space(latent: Latent | None) -> tuple[str, ...]:
    if latent is None:
        return ("pixels by its channels",)
    return (f"latents by its 4 channels, decoded by {latent['vae']}: assumed, as published",)


def _own_classes(network: nn.Module, data: Data) -> Classes | None:
    """Without dropped labels the row of the null label was never trained. Classes without a name have their number."""
    if (classes := _classes(network)) is None:
        return None
    unnamed = range(len(data.class_names), classes.count if data.class_names else 0)
    names = (*data.class_names, *map(str, unnamed))
    return replace(classes, null_label=classes.null_label if data.label_dropout else None, names=names)


def _trained_on(recipe: Recipe) -> TrainedOn | None:
    """None of a checkpoint that was written before recipes said it."""
    data = recipe.data
    if data.num_images < 1:
        return None
    channels = 3 if data.latent else int(recipe.model.get("channels", 3))
    return TrainedOn(data.source, data.num_images, data.image_size, channels, data.fingerprint)


def _classes(network: nn.Module) -> Classes | None:
    if not isinstance(network, SiT) or not network.config["num_classes"]:
        return None
    return Classes(network.config["num_classes"], network.null_label)
