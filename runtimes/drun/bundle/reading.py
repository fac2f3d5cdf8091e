"""Reading a bundle: the manifest as dataclasses, and the files, whose sha256 is recomputed first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drun.bundle.artifact import FileEntry
from drun.bundle.hashes import Stamp, check_digest, check_same, checked, is_sealed
from drun.bundle.manifest import MANIFEST, SCHEMA_VERSION, Manifest
from drun.diffusion import samplers
from drun.errors import BundleError, door
from drun.foreign import parse_json
from drun.typed import typed

#: Where `dexport` puts bundles.
BUNDLES = Path("bundles")
#: Suffixes of files that people name by mistake in place of a bundle.
CHECKPOINTS = (".pt", ".safetensors")
#: A manifest of 1,000 named classes has 40 KB.
MAX_MANIFEST_BYTES = 1 << 26


@dataclass(frozen=True)
class Bundle:
    path: Path
    manifest: Manifest
    sha256: str | None = None  # the sha256 that the manifest states of itself; None while the bundle is being made

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def locate(self, entry: FileEntry) -> Path:
        """The path of a file, which is not read.

        Raises:
            BundleError: it is missing or leaves the directory.
        """
        with door(f"bundle '{self.path}' names the file {entry.path!r:.80}", BundleError, "export again"):
            path = self.path / entry.path
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise BundleError(f"bundle '{self.path}' names the file '{entry.path}' outside its directory: refused")
            if not path.is_file():
                raise BundleError(
                    f"bundle '{self.path}' lacks '{entry.path}': copy the whole directory or export again"
                )
            return path

    @contextmanager
    def using(self, *entries: FileEntry) -> Iterator[list[Path]]:
        """The paths of files whose sha256 was recomputed. Open them within the `with`; they must not change meanwhile.

        Another process may put a new folder in the place of this one, as long as it holds the same files.

        Raises:
            BundleError: one is missing, leaves the directory, differs from the manifest, or changes.
        """
        paths = [self.locate(entry) for entry in entries]
        folder = self.path.stat()
        stamps = [checked(path, entry.sha256) for path, entry in zip(paths, entries, strict=True)]
        yield paths
        if not os.path.samestat(folder, self.path.stat()):
            stamps = self._stamps_after_an_export(entries)
        for path, stamp in zip(paths, stamps, strict=True):
            check_same(path, stamp)

    def _stamps_after_an_export(self, entries: Sequence[FileEntry]) -> list[Stamp]:
        try:
            return [checked(self.locate(entry), entry.sha256) for entry in entries]
        except BundleError as error:
            raise BundleError(f"'{self.path}' was exported anew while it was opened: run the command again") from error

    def content(self, entry: FileEntry) -> bytes:
        """The bytes that were hashed, whatever happens to the file meanwhile.

        Raises:
            BundleError: it is missing, leaves the directory, or differs from the manifest. OSError: it cannot be read.
        """
        path = self.locate(entry)
        content = path.read_bytes()
        check_digest(path, hashlib.sha256(content).hexdigest(), entry.sha256)
        return content

    def check_files(self) -> None:
        """Recompute every sha256. Raises BundleError as `using` does."""
        entries = [entry for artifact in self.manifest.all_artifacts for entry in artifact.files]
        with self.using(*entries, self.manifest.golden):
            pass

    def unlisted(self) -> list[str]:
        """The files in the directory that the manifest does not list; nothing ever opens them."""
        listed = {entry.path for artifact in self.manifest.all_artifacts for entry in artifact.files}
        listed |= {MANIFEST, self.manifest.golden.path}
        found = (
            Path(place, name).relative_to(self.path)
            for place, folders, names in os.walk(self.path)
            for name in [*names, *(folder for folder in folders if Path(place, folder).is_symlink())]
        )
        return sorted(path.as_posix() for path in found if path.as_posix() not in listed)


def read(path: Path) -> Bundle:
    """Read and check a bundle's manifest.

    Raises:
        BundleError: not a bundle, damaged, of another schema version, or with a missing or wrong field.
    """
    file = path / MANIFEST
    if (path.parent / MANIFEST).is_file() and path.is_file():
        raise BundleError(f"'{path}' is a file of a bundle, expected its folder: '{path.parent}'")
    if not file.is_file():
        source = path if path.suffix in CHECKPOINTS or any(path.glob("*.pt")) else "CHECKPOINT"
        raise BundleError(f"'{path}' is not a bundle: it has no {MANIFEST}; make one with 'dexport onnx {source}'")
    with door(f"'{file}' is not a manifest", BundleError, "export again"):
        if (size := file.stat().st_size) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {size:,} bytes, expected at most {MAX_MANIFEST_BYTES:,}")
        content = file.read_bytes()
        fields = parse_json(content)
        version = fields.pop("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        newer = type(version) is int and version > SCHEMA_VERSION
        raise BundleError(
            f"'{path}' has schema version {version!r:.40}, this drun reads {SCHEMA_VERSION}: "
            f"{'upgrade drun' if newer else 'export again'}"
        )
    stated = fields.pop("sha256", None)
    if not isinstance(stated, str) or not is_sealed(content, stated):
        raise BundleError(f"'{file}' is damaged: its sha256 is not the one that it states; copy it or export again")
    with door(f"'{file}' has a wrong or missing field", BundleError, "export again"):
        return _checked(Bundle(path, _manifest(fields), stated))


def _manifest(fields: dict[str, Any]) -> Manifest:
    try:
        manifest: Manifest = typed(Manifest, fields, "manifest")
    except BundleError as error:  # raised by a value, which does not know the file's name
        raise ValueError(str(error)) from error
    return manifest


def _checked(bundle: Bundle) -> Bundle:
    """The bundle, after everything that its manifest describes was built once.

    Raises the error of the part that cannot be built.
    """
    sampler = bundle.manifest.sampler
    assert bundle.manifest.card
    samplers.resolve(sampler.name, sampler.options)
    return bundle


def open_bundle(path: Path | None) -> Bundle:
    """A bundle as people name it: a folder, a name under bundles/, or (None) the newest bundle there.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    if path is None:
        return read(newest(BUNDLES))
    return read(path if path.exists() or not (BUNDLES / path).is_dir() else BUNDLES / path)


def newest(folder: Path) -> Path:
    """The most recently written bundle under `folder`.

    Raises:
        BundleError: there is none.
    """
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not manifests:
        raise BundleError(f"no bundle under '{folder}/': run 'dexport onnx CHECKPOINT', or name the folder of one")
    return manifests[-1].parent
