"""Recognises DiT, SiT and REPA, whose networks have the same keys: first by keys and shapes, then by conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drun.bundle.card import Card, Latent, StateSpace
from dtrain.checkpoints.layouts import Selection, State, network_of
from dtrain.published.denoiser import LATENT, Denoiser, default_sampler, state_shape
from dtrain.published.families.transformer import conventions, keys, shapes
from dtrain.published.families.transformer.conventions import Evidence

KNOWN = "a DiT, SiT or REPA"


def recognise(selection: Selection, given: Mapping[str, str]) -> Denoiser | None:
    """The denoiser, or None if the weights are of another family. Raises CheckpointError and ConfigError."""
    held = selection.held
    state, notes = keys.sampling_keys(selection.state)
    config = shapes.known_transformer(state, given, held.path)
    if config is None:
        return None
    meaning = conventions.decide(_evidence(selection, state, config), given)
    name = "DiT" if meaning.variance else "SiT"
    network = network_of(*_config_and_weights(name, state, config), f"'{held.path}', a {name},")
    latent = LATENT if config["channels"] == len(LATENT["scale"]) else None
    shape, ignored = state_shape(network, latent, given, 1)
    return Denoiser(
        network,
        network.config,
        Card(
            meaning.process,
            meaning.prediction,
            StateSpace.of(shape, latent),
            network.classes,
            meaning.variance,
            meaning.guided_channels,
            default_sampler(meaning.process, meaning.variance, clip_x0=False),
        ),
        held.step,
        selection.weights,
        selection.reasons + notes + meaning.reasons + _space(latent) + ignored,
    )


def _evidence(selection: Selection, state: State, config: Mapping[str, Any]) -> Evidence:
    held, channels = selection.held, config["channels"]
    num_rows, doubled = len(state[shapes.HEAD[0]]), config["out_channels"] == 2 * channels
    return Evidence(held.path, selection.state.keys(), held.args, channels, num_rows, doubled)


def _config_and_weights(name: str, state: State, config: dict[str, Any]) -> tuple[dict[str, Any], State]:
    """The configuration of a DiT or a SiT, and its weights without unused rows."""
    keywords = {key: value for key, value in config.items() if key != "out_channels"}
    if name == "SiT" and config["out_channels"] == 2 * config["channels"]:
        state = shapes.without_dead_rows(state, config)
    return {"name": name, **keywords}, state


def _space(latent: Latent | None) -> tuple[str, ...]:
    if latent is None:
        return ("pixels by its channels",)
    return (f"latents by its 4 channels, decoded by {latent['vae']}: assumed, as published",)
