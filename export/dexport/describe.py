"""The manifest of a denoiser: everything that a runtime must know and cannot read from the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from drun.bundle.artifact import FileEntry, Tensor
from drun.bundle.card import Card, Classes
from drun.bundle.manifest import CheckpointEntry, GuidanceEntry, Manifest, Model
from drun.diffusion.process import Process
from drun.diffusion.process.flow import FlowProcess
from drun.version import VERSION
from dtrain.published import Denoiser


def manifest(denoiser: Denoiser, checkpoint: CheckpointEntry) -> Manifest:
    """The manifest without artifacts, decoder and golden file."""
    card = denoiser.card
    return Manifest(
        created_by=created_by(),
        model=Model(denoiser.config["name"], _without_name(denoiser.config), denoiser.num_parameters, checkpoint),
        process=card.process.to_dict(),
        prediction=card.prediction,
        time={"kind": "flow" if isinstance(card.process, FlowProcess) else "index", "dtype": "float32"},
        data=card.data,
        sampler=card.sampler,
        golden=FileEntry("", ""),
        classes=card.classes,
        guidance=GuidanceEntry(channels=card.guided_channels),
        variance=card.variance,
        trained_on=denoiser.trained_on,
    )


def metadata(denoiser: Denoiser, checkpoint: CheckpointEntry) -> dict[str, str]:
    """What a file of the network may say of the model, for whoever has it without its bundle."""
    whole = manifest(denoiser, checkpoint)
    essentials = {
        "model": whole.model.name,
        "checkpoint_sha256": checkpoint["sha256"],
        "weights": checkpoint["weights"],
        "process": whole.process,
        "prediction": whole.prediction,
        "variance": whole.variance,
        "classes": whole.classes and asdict(whole.classes),
        "data": asdict(whole.data),
    }
    return {"com.dexport.created_by": created_by(), "com.dexport.model": json.dumps(essentials)}


def created_by() -> str:
    """The version of this program, which makes golden files."""
    return f"dexport {VERSION}"


def _without_name(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "name"}


def io_of(card: Card) -> tuple[Tensor, ...]:
    """The inputs, x, t and, where there are classes, y; then the output."""
    x = Tensor("x", "float32", ("N", *card.data.shape), f"noisy {'latents' if card.data.latent else 'images'}")
    t = Tensor("t", "float32", ("N",), _time_meaning(card.process))
    out = Tensor("out", "float32", ("N", *card.output_shape), _output_meaning(card))
    if card.classes is None:
        return x, t, out
    return x, t, Tensor("y", "int64", ("N",), _label_meaning(card.classes)), out


def _time_meaning(process: Process) -> str:
    if isinstance(process, FlowProcess):
        return f"time, {process.at_depth(1.0):g} at the noise and {process.at_depth(0.0):g} at the data"
    return f"time index, {process.noise_end:g} at the noise and 0 at the data"


def _label_meaning(classes: Classes) -> str:
    known = f"class, 0 to {classes.count - 1}"
    return known if classes.null_label is None else f"{known}, or {classes.null_label} for none"


def _output_meaning(card: Card) -> str:
    if card.variance is None:
        return card.prediction
    return f"{card.prediction}, then in as many channels the variance ({card.variance})"
