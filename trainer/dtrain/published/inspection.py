"""Describes a checkpoint for `dtrain inspect`: its network, the evidence, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from drun.bundle.average import of_initial_weights
from drun.bundle.card import Card, Classes, StateSpace
from drun.commands.suggest import sample_command
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from dtrain import published
from dtrain.averages import initial_share
from dtrain.checkpoints import layouts
from dtrain.checkpoints import ours as checkpoint
from dtrain.published import Denoiser, ours, suggest

#: Width of the first column, characters.
COLUMN = 12


@dataclass(frozen=True)
class Inspection:
    """lines: for people. document: the same facts as values that `drun.plain.plain` takes."""

    lines: list[str]
    document: dict[str, Any]


def inspect(path: Path, settings: Mapping[str, str] | None = None) -> Inspection:
    """Describe a checkpoint.

    Args:
        path: a file, or the folder of a training run, of which the newest checkpoint is taken.
        settings: see `published.load`.

    Raises:
        CheckpointError, ConfigError: as `published.load`, but own classifiers are described, too.
    """
    path = checkpoint.located(path)
    given, content = settings or {}, layouts.read(path)
    if checkpoint.is_ours(content):
        saved = checkpoint.parse(content, path)
        if ours.is_teacher(saved.recipe.model):
            return _of_teacher(saved, path)
        layout, states = f"a checkpoint of dtrain, recipe {saved.recipe.name}", "ema and online"
    else:
        unpacked = layouts.unpack(content, path)
        one = "one set, taken for " if unpacked.is_bare else ""
        layout, states = unpacked.layout, one + " and ".join(unpacked.states)
    denoiser = published.recognised(content, path, "ema", given)
    weights = suggest.weights_of(denoiser.initial_share, denoiser.step)
    export = suggest.export_command(path, given, weights)
    sample = sample_command(denoiser.card, suggest.bundle_of(path, weights))
    text = [*_of_denoiser(denoiser, path, layout, states), _row("next", export), _row("", sample)]
    facts = {"reasons": denoiser.reasons, "next": [export, sample], **_card_facts(denoiser.card)}
    return Inspection(text, {**_facts(path, layout, denoiser.network, denoiser.config, denoiser.step), **facts})


def _facts(path: Path, layout: str, network: nn.Module, config: Mapping[str, Any], step: int) -> dict[str, Any]:
    return {
        "file": path,
        "layout": layout,
        "num_bytes": path.stat().st_size,
        "model": dict(config),
        "step": step,
        "parameters": _num_parameters(network),
    }


def _card_facts(card: Card) -> dict[str, Any]:
    return {field.name: getattr(card, field.name) for field in fields(card)} | {"process": card.process.to_dict()}


def paper_name(config: Mapping[str, Any], process: Process | None = None) -> str:
    """A network as its paper writes it, such as SiT-XL/2; other sizes in words.

    Args:
        process: tells a DiT without a learned variance, whose network is a SiT's, from a SiT.
    """
    name = str(config.get("name"))
    if name == "ViT":
        return f"ViT, {_width(config)}, patch {config['patch_size']}"
    if "dim_mults" in config:
        return f"{name}, dim {config['dim']}, mults {', '.join(map(str, config['dim_mults']))}"
    if name not in ("SiT", "DiT"):
        return name
    family = name if process is None or isinstance(process, FlowProcess) else "DiT"
    # Settings that a recipe leaves out have the constructor's defaults.
    size, patch = config.get("size", "B"), config.get("patch_size", 2)
    known = f"{family}-{size}/{patch}" if isinstance(size, str) else f"{family}, {_width(size)}, patch {patch}"
    return known + (", queries and keys normed" if config.get("qk_norm") else "")


def _width(size: Mapping[str, Any]) -> str:
    return f"width {size['hidden_size']}, {size['depth']} blocks, {size['num_heads']} heads"


def _of_denoiser(denoiser: Denoiser, path: Path, layout: str, states: str) -> list[str]:
    card = denoiser.card
    return [
        _title(path, paper_name(denoiser.config, card.process), denoiser.network),
        _row("file", f"{layout}, {_size(path)}"),
        _row("weights", states + (f", step {denoiser.step:,}" if denoiser.step else "")),
        *_average(denoiser.initial_share, denoiser.step),
        _row("states", _states(card.data)),
        _row("process", _pairs(card.process.to_dict())),
        _row("prediction", f"{card.prediction}, variance {card.variance or 'not learned'}"),
        _row("classes", _classes(card.classes)),
        _row("guidance", _guidance(card)),
        _row("sampler", f"{card.sampler.name} {_pairs(card.sampler.options)}"),
        *(_row("" if i else "because", reason) for i, reason in enumerate(denoiser.reasons)),
    ]


def _of_teacher(saved: checkpoint.Checkpoint, path: Path) -> Inspection:
    config = saved.recipe.model
    state = ours.own_state(saved, "ema")
    network = layouts.network_of(config, state, f"'{path}', a {config['name']},")
    channels, *sides = network.state_shape(saved.recipe.data.image_size)
    assert network.classes is not None
    assignment = shlex.quote(f'objective.teachers=["{path}"]')
    command = f"dtrain run RECIPE --set {assignment}"
    text = [
        _title(path, paper_name(config), network),
        _row("file", f"a checkpoint of dtrain, recipe {saved.recipe.name}, {_size(path)}"),
        _row("weights", f"ema and online, step {saved.step:,}"),
        *_average(initial_share(saved.recipe.ema, saved.step), saved.step),
        _row("images", f"{channels} x {sides[0]} x {sides[1]}, {network.classes.count} classes"),
        _row("next", f"a teacher: use it as {command}"),
    ]
    facts = _facts(path, f"a checkpoint of dtrain, recipe {saved.recipe.name}", network, config, saved.step)
    return Inspection(text, facts | {"classes": network.classes, "next": [command]})


def _average(share: float | None, step: int) -> list[str]:
    note = of_initial_weights(share, step)
    return [_row("average", note)] if note else []


def _row(title: str, text: str) -> str:
    return f"{title:{COLUMN}}{text}"


def _title(path: Path, name: str, network: nn.Module) -> str:
    return f"{path.name}: {name}, {_num_parameters(network):,} parameters"


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f} MB"


def _states(data: StateSpace) -> str:
    shape = " x ".join(map(str, data.shape))
    if data.latent is None:
        return f"{shape} (pixel)"
    return f"{shape} (latent of {data.latent['vae']}, scale {data.latent['scale'][0]:g})"


def _classes(classes: Classes | None) -> str:
    if classes is None:
        return "none"
    null = "no null label" if classes.null_label is None else f"null label {classes.null_label}"
    names = f": {', '.join(classes.names)}" if classes.names else ""
    return f"{classes.count:,}, {null}{names}"


def _guidance(card: Card) -> str:
    if not card.can_guide:
        return "not possible"
    count = card.guided_channels
    return "of all channels" if count is None else f"of the first {count} of {card.data.shape[0]} channels"


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
