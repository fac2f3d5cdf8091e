"""What a bundle says of itself: the exporter writes these dataclasses, the runtime reads them back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, TypedDict

from drun.diffusion.prediction import LEARNED_RANGE
from drun.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


class Checkpoint(TypedDict):
    file: str
    sha256: str
    weights: str                  # ema | online
    step: int | None
    settings: dict[str, str]      # what `dexport --set` said about it


@dataclass(frozen=True)
class Model:
    name: str
    config: dict[str, Any]
    parameters: int               # of the exported network
    checkpoint: Checkpoint


class Latent(TypedDict):
    """z = (mean + std eps) scale + bias; the decoder takes z and undoes this itself."""

    vae: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class Data:
    space: str                    # pixel | latent
    shape: tuple[int, int, int]   # (C, H, W) of one state of the sampler
    range: tuple[float, float] = (-1.0, 1.0)  # of pixels
    latent: Latent | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise BundleError(f"image shape {self.shape} has a side below 1")


@dataclass(frozen=True)
class Classes:
    count: int
    null_label: int | None        # None: the network knows no "no class", so it cannot be guided
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[str | int, ...]
    meaning: str


@dataclass(frozen=True)
class FileEntry:
    path: str                     # relative to the bundle
    sha256: str


@dataclass(frozen=True)
class Tolerance:
    """Largest relative L2 error that passes."""

    call: float
    trajectory: float


@dataclass(frozen=True)
class Artifact:
    format: str                   # onnx, ...
    precision: str                # fp32, ...
    files: tuple[FileEntry, ...]  # the first is the one to open
    batch: tuple[int, int]        # smallest and largest; equal for a static batch
    target: dict[str, Any]        # opset and the like
    producers: dict[str, str]     # library versions
    tolerance: Tolerance
    parity: dict[str, Any] = field(default_factory=dict)  # as measured at export

    def __post_init__(self) -> None:
        low, high = self.batch
        if not 1 <= low <= high:
            raise BundleError(f"batch {low} to {high} is no range of sizes")


@dataclass(frozen=True)
class Decoder:
    """From latents to pixels."""

    shape: tuple[int, int, int]   # (C, H, W) of one image
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Sampler:
    """What `drun` uses when the user does not say."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


class Guidance(TypedDict):
    channels: int | None          # how many leading ones are guided; None: all


@dataclass(frozen=True)
class Manifest:
    created_by: str
    model: Model
    process: dict[str, Any]       # see drun.diffusion.process
    prediction: str               # see drun.diffusion.prediction
    time: dict[str, Any]          # kind (index | flow), dtype
    data: Data
    sampler: Sampler
    io: tuple[Tensor, ...]
    golden: FileEntry
    artifacts: tuple[Artifact, ...] = ()
    classes: Classes | None = None
    guidance: Guidance = field(default_factory=lambda: Guidance(channels=None))
    variance: str | None = None   # learned_range: the output's second half, see drun.diffusion.prediction
    decoder: Decoder | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.variance not in (None, LEARNED_RANGE):
            raise BundleError(f"variance got '{self.variance}', expected {LEARNED_RANGE} or null")

    @property
    def all_artifacts(self) -> tuple[Artifact, ...]:
        """The denoiser's and the decoder's."""
        return self.artifacts + (self.decoder.artifacts if self.decoder else ())

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one output of the network."""
        channels, height, width = self.data.shape
        return (channels if self.variance is None else 2 * channels), height, width

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
