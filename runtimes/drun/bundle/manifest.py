"""What a bundle says of itself: the exporter writes these dataclasses, the runtime reads them back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypedDict

from drun.bundle.artifact import DECODER_TOLERANCES, TOLERANCES, Artifact, FileEntry, Io, check_distinct
from drun.bundle.card import MAX_STATE_SIZE, Card, Classes, Sampler, StateSpace
from drun.bundle.hashes import seal
from drun.diffusion import process as processes
from drun.errors import BundleError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"


class _Average(TypedDict, total=False):
    initial_share: float | None  # of the initial weights in averaged ones, 0 to 1; None: not averaged, or not known


class CheckpointEntry(_Average):
    file: str
    sha256: str
    weights: str  # ema | online
    step: int | None
    settings: dict[str, str]  # the settings of `dexport --set`


@dataclass(frozen=True)
class Model:
    name: str
    config: dict[str, Any]
    parameters: int  # the number of parameters of the exported network
    checkpoint: CheckpointEntry


@dataclass(frozen=True)
class TrainedOn:
    """The images that the network learned from."""

    source: str  # the source, as the training run named it
    num_images: int
    image_size: int  # pixels a side, as trained
    channels: int  # of these images: 1 grey, 3 RGB
    fingerprint: str  # changes when the images do

    def __post_init__(self) -> None:
        if min(self.num_images, self.image_size, self.channels) < 1:
            raise BundleError(
                f"trained_on got {self.num_images} images, {self.image_size} pixels a side, {self.channels} channels, "
                "expected at least 1 each"
            )


@dataclass(frozen=True)
class DecoderEntry:
    """The decoder, which turns latents into pixels."""

    shape: tuple[int, int, int]  # (C, H, W) of one image
    artifacts: tuple[Artifact, ...]

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or math.prod(self.shape) > MAX_STATE_SIZE:
            raise BundleError(
                f"the decoder's shape got {self.shape}, expected sides from 1 on and at most {MAX_STATE_SIZE:,} numbers"
            )
        if not self.artifacts:
            raise BundleError("the decoder has no artifacts, expected one at least")
        for artifact in self.artifacts:
            if artifact.conditioning is not None:
                raise BundleError(f"the decoder {artifact.id} has a conditioning graph, expected none")
        check_distinct(self.artifacts)


class GuidanceEntry(TypedDict):
    channels: int | None  # how many leading ones are guided; None: all


@dataclass(frozen=True)
class Manifest:
    created_by: str
    model: Model
    process: dict[str, Any]  # see drun.diffusion.process
    prediction: str  # see drun.diffusion.prediction
    time: dict[str, Any]  # kind (index | flow), dtype
    data: StateSpace
    sampler: Sampler
    golden: FileEntry
    artifacts: tuple[Artifact, ...] = ()
    classes: Classes | None = None
    guidance: GuidanceEntry = field(default_factory=lambda: GuidanceEntry(channels=None))
    variance: str | None = None  # learned_range: the output's second half, see drun.diffusion.prediction
    decoder: DecoderEntry | None = None
    trained_on: TrainedOn | None = None  # None: the checkpoint does not say

    def __post_init__(self) -> None:
        if self.model.parameters < 0:
            raise BundleError(f"the number of parameters got {self.model.parameters}, expected 0 or more")
        for artifact in self.artifacts:
            artifact.tolerance.check_ceiling(TOLERANCES[artifact.precision])
            artifact.check_io(self._denoiser_io())
        if self.decoder is not None:
            io: Io = {"z": ("float32", self.data.shape), "image": ("float32", self.decoder.shape)}
            for artifact in self.decoder.artifacts:
                artifact.tolerance.check_ceiling(DECODER_TOLERANCES[artifact.precision])
                artifact.check_io(io)
        check_distinct(self.artifacts)

    @cached_property
    def card(self) -> Card:
        """Raises ConfigError or BundleError where the model that is described cannot be."""
        return Card(
            processes.from_dict(self.process),
            self.prediction,
            self.data,
            self.classes,
            self.variance,
            self.guidance["channels"],
            self.sampler,
        )

    def _denoiser_io(self) -> Io:
        inputs: Io = {"x": ("float32", self.data.shape), "t": ("float32", ())}
        labels: Io = {"y": ("int64", ())} if self.classes else {}
        return inputs | labels | {"out": ("float32", self.card.output_shape)}

    @property
    def all_artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts of the denoiser and of the decoder."""
        return self.artifacts + (self.decoder.artifacts if self.decoder else ())

    def to_json(self) -> str:
        """The text of a manifest file, sealed by its own hash."""
        return seal({"schema_version": SCHEMA_VERSION} | dataclasses.asdict(self))
