"""The bundle: a directory of plain files and the only contract between export and runtimes.

The exporter writes these dataclasses, the runtime reads them back; nothing in a bundle is ever executed.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from drun import process
from drun.errors import BundleError, UserError
from drun.files import sha256
from drun.prediction import LEARNED_RANGE

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
    process: dict[str, Any]       # see drun.process
    prediction: str               # see drun.prediction
    time: dict[str, Any]          # kind (index | flow), dtype
    data: Data
    sampler: Sampler
    io: tuple[Tensor, ...]
    golden: FileEntry
    artifacts: tuple[Artifact, ...] = ()
    classes: Classes | None = None
    guidance: Guidance = field(default_factory=lambda: Guidance(channels=None))
    variance: str | None = None   # learned_range: the output's second half, see drun.prediction
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


@dataclass(frozen=True)
class Bundle:
    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def process(self) -> process.Process:
        return process.from_dict(self.manifest.process)

    def artifact(self, formats: tuple[str, ...], precision: str | None = None) -> Artifact:
        """The denoiser's first artifact of one of the formats, and of `precision` where given.

        Raises:
            BundleError: there is none; the message lists what there is.
        """
        for artifact in self.manifest.artifacts:
            if artifact.format in formats and precision in (None, artifact.precision):
                return artifact
        wanted = f"{'/'.join(formats)}{f' in {precision}' if precision else ''}"
        present = ", ".join(f"{a.format} {a.precision}" for a in self.manifest.artifacts) or "nothing"
        raise BundleError(
            f"bundle '{self.path}' has no {wanted} artifact, it holds {present}: "
            "choose one of these, or export the missing one"
        )

    def locate(self, entry: FileEntry) -> Path:
        """The path of a file, unread.

        Raises:
            BundleError: it is missing or leaves the directory.
        """
        path = self.path / entry.path
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise BundleError(f"bundle '{self.path}' names the file '{entry.path}' outside its directory: refused")
        if not path.is_file():
            raise BundleError(f"bundle '{self.path}' lacks '{entry.path}': copy the whole directory or export again")
        return path

    def file(self, entry: FileEntry) -> Path:
        """The path of a file after its sha256 was recomputed.

        Raises:
            BundleError: it is missing, leaves the directory, or differs from the manifest.
        """
        path = self.locate(entry)
        if (digest := sha256(path)) != entry.sha256:
            raise BundleError(
                f"'{path}' is damaged: sha256 got {digest[:12]}…, expected {entry.sha256[:12]}…; "
                "copy it or export again"
            )
        return path

    def open_files(self, artifact: Artifact) -> Path:
        """Check all files of an artifact; the path of the one to open.

        Raises:
            BundleError: as `file`, or there are none.
        """
        paths = [self.file(entry) for entry in artifact.files]
        if not paths:
            raise BundleError(f"bundle '{self.path}' names no files for {artifact.format}: export again")
        return paths[0]


def read(path: Path) -> Bundle:
    """Read and check a bundle's manifest.

    Raises:
        BundleError: not a bundle, unknown schema version, or a missing or wrong field.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise BundleError(f"'{path}' is not a bundle: it has no {MANIFEST}; make one with 'dexport onnx CHECKPOINT'")
    try:
        fields = json.loads(manifest_path.read_text())
        version = fields.pop("schema_version")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BundleError(f"'{manifest_path}' is not a manifest: {error}; export again") from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"'{path}' has schema version {version}, this drun reads {SCHEMA_VERSION}: "
            f"{'upgrade drun' if str(version) > str(SCHEMA_VERSION) else 'export again'}"
        )
    try:
        bundle = Bundle(path, _read(Manifest, fields, "manifest"))
        assert bundle.process
        return bundle
    except (TypeError, ValueError, UserError) as error:
        raise BundleError(f"'{manifest_path}' has a wrong or missing field: {error}; export again") from error


def _read(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as the annotated type `kind`.

    Raises:
        ValueError: it is of another type; the message gives its name, such as `manifest.data.shape`.
    """
    arguments = get_args(kind)
    if NoneType in arguments:
        return None if value is None else _read(arguments[0], value, name)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return _read_fields(kind, value, name)
    if get_origin(kind) is tuple:
        return _read_tuple(arguments, value, name)
    expected = dict if get_origin(kind) is dict else int | float if kind is float else kind
    if kind is not Any and not isinstance(value, expected):
        raise ValueError(f"{name} got {value!r:.40}, expected {getattr(expected, '__name__', expected)}")
    return value


def _read_fields(kind: Any, value: Any, name: str) -> Any:
    fields = _read(dict, value, name)
    kinds = get_type_hints(kind)
    # A dataclass names its own missing and unknown fields.
    if is_typeddict(kind) and (missing := kinds.keys() - fields):
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    return kind(**{key: _read(kinds.get(key, Any), item, f"{name}.{key}") for key, item in fields.items()})


def _read_tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    items = _read(list, value, name)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        raise ValueError(f"{name} has {len(items)} values, expected {len(kinds)}")
    return tuple(_read(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def newest(folder: Path) -> Path:
    """The most recently written bundle under `folder`.

    Raises:
        BundleError: there is none.
    """
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise BundleError(f"no bundle under '{folder}/': run 'dexport onnx CHECKPOINT', or name one by --bundle")
    return manifests[-1].parent
