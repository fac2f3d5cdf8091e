"""Reading a bundle: the manifest as dataclasses, and its files after their sha256 was recomputed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from drun.bundle.manifest import MANIFEST, SCHEMA_VERSION, Artifact, FileEntry, Manifest
from drun.diffusion import process
from drun.errors import BundleError, UserError
from drun.files import sha256


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
