"""Checkpoints of dtrain, which hold the recipe of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drun.bundle.card import Card, Classes, Latent, StateSpace
from drun.bundle.manifest import TrainedOn
from drun.diffusion import process as processes
from drun.errors import CheckpointError
from drun.typed import typed
from dtrain import models, objectives
from dtrain.averages import initial_share
from dtrain.checkpoints import layouts
from dtrain.checkpoints.layouts import State
from dtrain.checkpoints.ours import Checkpoint
from dtrain.config import Data, Recipe
from dtrain.models import Network
from dtrain.published.denoiser import Denoiser, default_sampler, state_shape
from dtrain.published.families.transformer.keys import projector_notes
from dtrain.published.settings import refuse_others


def denoiser_of(saved: Checkpoint, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    """The denoiser that a training run made.

    Raises:
        CheckpointError: it is of a teacher, or damaged. ConfigError: a setting that its recipe already states.
    """
    recipe = saved.recipe
    if is_teacher(recipe.model):
        raise CheckpointError(
            f"'{path}' holds a {recipe.model['name']}, which classifies images: it is a teacher, not a denoiser; "
            "see dtrain inspect"
        )
    refuse_others(given, ("image_size",), f"'{path}', whose recipe says all else")
    network = layouts.network_of(recipe.model, own_state(saved, weights), f"a checkpoint of recipe {recipe.name}")
    latent = _latent(recipe.data.latent)
    shape, notes = state_shape(network, latent, given, recipe.data.image_size)
    process = processes.from_dict(recipe.process)
    name = f"a checkpoint of dtrain, recipe {recipe.name}"
    return Denoiser(
        network,
        dict(recipe.model),
        Card(
            process,
            objectives.prediction(recipe.objective),
            StateSpace.of(shape, latent),
            _trained_classes(network.classes, recipe.data),
            network.variance,
            sampler=default_sampler(process, network.variance, clip_x0=latent is None),
        ),
        saved.step,
        weights,
        (name, f"{weights} weights", *projector_notes(saved.objective), *notes),
        trained_on=_trained_on(recipe, network),
        initial_share=initial_share(recipe.ema, saved.step) if weights == "ema" else None,
    )


def is_teacher(config: Mapping[str, Any]) -> bool:
    """Whether a model's configuration is of a classifier, whose features others learn from."""
    name = config.get("name")
    return isinstance(name, str) and getattr(models.available().get(name), "predicts", "image") == "class"


def own_state(saved: Checkpoint, weights: str) -> State:
    """The network's weights in a checkpoint of ours."""
    return saved.ema if weights == "ema" else saved.model


def _latent(fields: Mapping[str, Any]) -> Latent | None:
    """The recipe's data.latent. Raises ValueError where it is wrong."""
    latent: Latent | None = typed(Latent, dict(fields), "data.latent") if fields else None
    return latent


def _trained_classes(classes: Classes | None, data: Data) -> Classes | None:
    """The classes with all their names; a class without one is named by its number.

    Without dropped labels the null label was never trained, so it is left out.
    """
    if classes is None:
        return None
    unnamed = range(len(data.class_names), classes.count if data.class_names else 0)
    names = (*data.class_names, *map(str, unnamed))
    return replace(classes, null_label=classes.null_label if data.label_dropout else None, names=names)


def _trained_on(recipe: Recipe, network: Network) -> TrainedOn | None:
    """The images of the run; None for an older checkpoint, whose recipe does not describe them."""
    data = recipe.data
    if data.num_images < 1:
        return None
    channels = 3 if data.latent else network.state_shape(data.image_size)[0]
    return TrainedOn(data.source, data.num_images, data.image_size, channels, data.fingerprint)
