"""What a bundle says of itself: the exporter writes these dataclasses, the runtime reads them back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypedDict

from drun.bundle.hashes import seal
from drun.diffusion.prediction import COMPONENTS, LEARNED_RANGE
from drun.errors import BundleError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"

#: Fewer images are filled up to the smallest batch.
MAX_SMALLEST_BATCH = 4096
#: Counts above these are damage, not models.
MAX_STATE_SIZE, MAX_BATCH, MAX_CLASSES = 1 << 28, 1 << 16, 10_000_000
SPACES = ("pixel", "latent")


class _Average(TypedDict, total=False):
    initial_share: float | None  # of the initial weights in averaged ones, 0 to 1; None: not averaged, or not known


class CheckpointEntry(_Average):
    file: str
    sha256: str
    weights: str  # ema | online
    step: int | None
    settings: dict[str, str]  # what `dexport --set` said about it


@dataclass(frozen=True)
class Model:
    name: str
    config: dict[str, Any]
    parameters: int  # of the exported network
    checkpoint: CheckpointEntry


class Latent(TypedDict):
    """z = (mean + std eps) scale + bias; the decoder takes z and undoes this itself."""

    vae: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class StateSpace:
    space: str  # pixel | latent
    shape: tuple[int, int, int]  # (C, H, W) of one state of the sampler
    range: tuple[float, float] = (-1.0, 1.0)  # of pixels
    latent: Latent | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise BundleError(f"image shape {self.shape} has a side below 1")
        if math.prod(self.shape) > MAX_STATE_SIZE:
            raise BundleError(f"image shape {self.shape} has more than {MAX_STATE_SIZE:,} numbers")
        if self.space not in SPACES:
            raise BundleError(f"space got '{self.space}', expected {' or '.join(SPACES)}")
        for key in ("scale", "bias") if self.latent else ():
            if (got := len(self.latent[key])) != self.shape[0]:  # type: ignore[index]
                raise BundleError(f"the latents' {key} has {got} values, expected {self.shape[0]}, one a channel")


@dataclass(frozen=True)
class Classes:
    count: int
    null_label: int | None  # None: the network knows no "no class", so it cannot be guided
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_CLASSES:
            raise BundleError(f"the number of classes got {self.count}, expected 1 to {MAX_CLASSES:,}")
        if self.null_label is not None and not 0 <= self.null_label <= self.count:
            raise BundleError(f"the null label got {self.null_label}, expected 0 to {self.count}")
        if self.names and len(self.names) != self.count:
            raise BundleError(f"{self.count} classes have {len(self.names)} names, expected one each")


@dataclass(frozen=True)
class TrainedOn:
    """The images that the network learned from."""

    source: str  # as the training run was told it
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
class Tensor:
    name: str
    dtype: str
    shape: tuple[str | int, ...]
    meaning: str


@dataclass(frozen=True)
class FileEntry:
    path: str  # relative to the bundle
    sha256: str


@dataclass(frozen=True)
class Tolerance:
    """Largest relative L2 error that passes."""

    call: float
    trajectory: float

    def __post_init__(self) -> None:
        if not (0 < self.call < math.inf and 0 < self.trajectory < math.inf):
            raise BundleError(f"tolerance got {self.call:g} and {self.trajectory:g}, expected finite and above 0")

    def check_ceiling(self, ceiling: Tolerance) -> None:
        """Raises BundleError if either passes what `ceiling` would not."""
        if self.call > ceiling.call or self.trajectory > ceiling.trajectory:
            raise BundleError(
                f"tolerance got {self.call:g} a call and {self.trajectory:g} a trajectory, expected at most "
                f"{ceiling.call:g} and {ceiling.trajectory:g}"
            )


#: The largest tolerances of a precision: no bundle proves itself by wider ones.
CEILINGS = {
    "fp32": Tolerance(1e-5, 1e-3),
    "fp16": Tolerance(1e-2, 5e-2),
    "bf16": Tolerance(6e-2, 6e-2),
    "int8": Tolerance(6e-2, 6e-2),
}
#: ONNX Runtime is 1.3e-6 away at Stable Diffusion's size and 256 pixels (random weights); an 8-bit level is 4e-3.
DECODER_CEILINGS = CEILINGS | {"fp32": Tolerance(5e-5, 5e-5)}


class _Measured(TypedDict):
    checks: int
    passed: bool
    worst: dict[str, str | int | float | None]


class Parity(_Measured, total=False):
    """As measured at export."""

    quick: bool  # by `dexport --quick`: fewer calls and steps


#: name -> (dtype, shape behind the batch)
Io = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Artifact:
    format: str  # onnx, ...
    precision: str  # fp32, ...
    io: tuple[Tensor, ...]  # the inputs in order, then the output; batches are "N" in the shapes
    files: tuple[FileEntry, ...]  # the first is the one to open
    batch: tuple[int, int]  # smallest and largest; equal for a static batch
    target: dict[str, Any]  # opset and the like
    producers: dict[str, str]  # library versions
    tolerance: Tolerance
    parity: Parity | None = None

    def __post_init__(self) -> None:
        low, high = self.batch
        if not 1 <= low <= high <= MAX_BATCH or low > MAX_SMALLEST_BATCH:
            raise BundleError(f"batch {low} to {high} is not a range of sizes from 1 to {MAX_BATCH:,}")
        if not self.files:
            raise BundleError(f"the {self.format} artifact has no files, expected one at least")
        if self.precision not in CEILINGS:
            raise BundleError(f"precision got '{self.precision}', expected one of {', '.join(CEILINGS)}")

    def check_io(self, expected: Io) -> None:
        """Raises BundleError unless these are the inputs and the output."""
        got = {tensor.name: (tensor.dtype, tensor.shape) for tensor in self.io}
        wanted = {name: (dtype, ("N", *sides)) for name, (dtype, sides) in expected.items()}
        for name in wanted.keys() | got.keys():
            if got.get(name) != wanted.get(name):
                raise BundleError(
                    f"the {self.format} artifact has '{name}' as {got.get(name)}, the model {wanted.get(name)}"
                )


@dataclass(frozen=True)
class DecoderEntry:
    """From latents to pixels."""

    shape: tuple[int, int, int]  # (C, H, W) of one image
    artifacts: tuple[Artifact, ...]

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or math.prod(self.shape) > MAX_STATE_SIZE:
            raise BundleError(f"the decoder's shape got {self.shape}, expected sides from 1 on and a sane size")
        if not self.artifacts:
            raise BundleError("the decoder has no artifacts, expected one at least")


@dataclass(frozen=True)
class Sampler:
    """What `drun` uses when the user does not say."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


class Guidance(TypedDict):
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
    guidance: Guidance = field(default_factory=lambda: Guidance(channels=None))
    variance: str | None = None  # learned_range: the output's second half, see drun.diffusion.prediction
    decoder: DecoderEntry | None = None
    trained_on: TrainedOn | None = None  # None: the checkpoint does not say

    def __post_init__(self) -> None:
        if self.variance not in (None, LEARNED_RANGE):
            raise BundleError(f"variance got '{self.variance}', expected {LEARNED_RANGE} or null")
        if self.prediction not in COMPONENTS:
            raise BundleError(f"prediction got '{self.prediction}', expected one of {', '.join(COMPONENTS)}")
        if self.model.parameters < 0:
            raise BundleError(f"the number of parameters got {self.model.parameters}, expected 0 or more")
        if not 1 <= (self.guidance["channels"] or 1) <= self.data.shape[0]:
            raise BundleError(f"guided channels got {self.guidance['channels']}, expected 1 to {self.data.shape[0]}")
        for artifact in self.artifacts:
            artifact.tolerance.check_ceiling(CEILINGS[artifact.precision])
            artifact.check_io(self._denoiser_io())
        for artifact in self.decoder.artifacts if self.decoder else ():
            artifact.tolerance.check_ceiling(DECODER_CEILINGS[artifact.precision])
            assert self.decoder is not None
            artifact.check_io({"z": ("float32", self.data.shape), "image": ("float32", self.decoder.shape)})

    def _denoiser_io(self) -> Io:
        images: Io = {"x": ("float32", self.data.shape), "out": ("float32", self.output_shape)}
        return images | {"t": ("float32", ())} | ({"y": ("int64", ())} if self.classes else {})

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
        """The text of a manifest file, sealed by its own hash."""
        return seal({"schema_version": SCHEMA_VERSION} | dataclasses.asdict(self))
