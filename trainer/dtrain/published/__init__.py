"""Loads checkpoints of all known layouts. Keys and shapes tell what the network is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drun.bundle.hashes import check_same, hashed
from drun.errors import BundleError, CheckpointError, ConfigError, UserError, door
from dtrain.checkpoints import layouts
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.tensors import existing
from dtrain.published import families, ours
from dtrain.published.denoiser import LATENT, Denoiser
from dtrain.published.settings import check

__all__ = ["LATENT", "WEIGHTS", "Denoiser", "load", "recognised"]

WEIGHTS = ("ema", "online")


def load(path: Path, weights: str = "ema", settings: Mapping[str, str] | None = None) -> Denoiser:
    """Read a checkpoint of ours, of DiT, SiT, REPA or the aerial-imagery article, or a bare state dict of these nets.

    Weights in float32 are memory maps of the file, which must not be written to while they are in use.

    Args:
        weights: `ema` or `online`.
        settings: settings that the file does not state (see `dtrain.published.settings`): image_size (pixels),
            schedule, timesteps, prediction; of transformers process (dit, sit or repa), path and num_heads.

    Raises:
        CheckpointError: unreadable, unsafe or not recognised. ConfigError: a missing or wrong setting.
    """
    given = dict(settings or {})
    digest, stamp = hashed(existing(path))
    denoiser = recognised(layouts.read(path), path, weights, given)
    check_same(path, stamp)
    return replace(denoiser, settings=given, sha256=digest, stamp=stamp)


def recognised(content: Any, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    """As `load`, from the result of `layouts.read`."""
    if weights not in WEIGHTS:
        raise ConfigError(f"--weights got '{weights}', expected ema or online")
    check(given)
    with door(f"'{path}' holds a network that cannot be built", CheckpointError, passing=UserError):
        try:
            return _recognised(content, path, weights, given)
        except BundleError as error:
            raise CheckpointError(f"'{path}' describes no model: {error}") from error


def _recognised(content: Any, path: Path, weights: str, given: Mapping[str, str]) -> Denoiser:
    if checkpoint.is_ours(content):
        return ours.denoiser_of(checkpoint.parse(content, path), path, weights, given)
    selection = layouts.select(layouts.unpack(content, path), weights)
    if denoiser := families.recognise(selection, given):
        return denoiser
    first = next(iter(selection.state), "nothing")
    raise CheckpointError(
        f"'{path}' holds no network that is known here: its keys start with '{first}'; "
        f"expected a checkpoint of dtrain, {families.known()}"
    )
