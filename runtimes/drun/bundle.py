"""The bundle: a directory of plain files and the only contract between export and runtimes.

The exporter writes these dataclasses, the runtime reads them back; nothing in a bundle is ever executed.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drun import process
from drun.errors import BundleError, UserError
from drun.files import sha256

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Model:
    name: str
    config: dict[str, Any]
    parameters: int               # of the exported network
    checkpoint: dict[str, Any]    # file name, sha256, weights (ema | online), step


@dataclass(frozen=True)
class Data:
    space: str                    # pixel | latent
    shape: tuple[int, int, int]   # (C, H, W) of one image
    range: tuple[float, float] = (-1.0, 1.0)


@dataclass(frozen=True)
class Classes:
    count: int
    null_label: int
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


@dataclass(frozen=True)
class Sampler:
    """What `drun` uses when the user does not say."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    created_by: str
    model: Model
    process: dict[str, Any]       # see drun.process
    prediction: str               # see drun.prediction
    time: dict[str, Any]          # kind (index), dtype
    data: Data
    sampler: Sampler
    io: tuple[Tensor, ...]
    golden: FileEntry
    artifacts: tuple[Artifact, ...] = ()
    classes: Classes | None = None
    guidance: dict[str, Any] = field(default_factory=lambda: {"channels": None})
    schema_version: int = SCHEMA_VERSION

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
    def process(self) -> process.DiscreteProcess:
        return process.from_dict(self.manifest.process)

    def artifact(self, formats: tuple[str, ...], precision: str | None = None) -> Artifact:
        """The first artifact of one of the formats, and of `precision` where given.

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
            f"add one with 'dexport {formats[0]} {self.path}'"
        )

    def file(self, entry: FileEntry) -> Path:
        """The path of a file after its sha256 was recomputed.

        Raises:
            BundleError: it is missing, leaves the directory, or differs from the manifest.
        """
        path = self.path / entry.path
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise BundleError(f"bundle '{self.path}' names the file '{entry.path}' outside its directory: refused")
        if not path.is_file():
            raise BundleError(f"bundle '{self.path}' lacks '{entry.path}': copy the whole directory or export again")
        if (digest := sha256(path)) != entry.sha256:
            raise BundleError(
                f"'{path}' is damaged: sha256 got {digest[:12]}…, expected {entry.sha256[:12]}…; "
                "copy it or export again"
            )
        return path

    def open_files(self, artifact: Artifact) -> Path:
        """Check all files of an artifact; the path of the one to open."""
        paths = [self.file(entry) for entry in artifact.files]
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
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise BundleError(f"'{manifest_path}' is not a manifest: {error}; export again") from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"'{path}' has schema version {version}, this drun reads {SCHEMA_VERSION}: "
            f"{'upgrade drun' if str(version) > str(SCHEMA_VERSION) else 'export again'}"
        )
    try:
        bundle = Bundle(path, _manifest(fields))
        assert bundle.process
        return bundle
    except (TypeError, KeyError, ValueError, AttributeError, UserError) as error:
        raise BundleError(f"'{manifest_path}' has a wrong or missing field: {error}; export again") from error


def _manifest(fields: dict[str, Any]) -> Manifest:
    classes = fields.get("classes")
    return Manifest(
        **fields
        | {
            "model": Model(**fields["model"]),
            "data": Data(**fields["data"] | {key: tuple(fields["data"][key]) for key in ("shape", "range")}),
            "classes": Classes(**classes | {"names": tuple(classes["names"])}) if classes else None,
            "sampler": Sampler(**fields["sampler"]),
            "io": tuple(Tensor(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in fields["io"]),
            "golden": FileEntry(**fields["golden"]),
            "artifacts": tuple(_artifact(artifact) for artifact in fields["artifacts"]),
        }
    )


def _artifact(fields: dict[str, Any]) -> Artifact:
    return Artifact(
        **fields
        | {
            "files": tuple(FileEntry(**entry) for entry in fields["files"]),
            "batch": tuple(fields["batch"]),
            "tolerance": Tolerance(**fields["tolerance"]),
        }
    )


def newest(folder: Path) -> Path:
    """The most recently written bundle under `folder`.

    Raises:
        BundleError: there is none.
    """
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise BundleError(f"no bundle under '{folder}/': run 'dexport onnx CHECKPOINT', or name one by --bundle")
    return manifests[-1].parent
