"""The folder that a bundle is written to: its present content, and its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drun.bundle import reading as bundles
from drun.bundle.manifest import MANIFEST, CheckpointEntry
from drun.bundle.reading import Bundle
from drun.console import say
from drun.errors import BundleError, Busy
from drun.files import locked

#: The facts that identify a bundle.
IDENTITY = ("sha256", "weights", "settings")


@dataclass(frozen=True)
class Place:
    """The present content of the folder of a new bundle."""

    held: Bundle | None  # of the same identity
    replaced: str | None  # something else, in words


NOTHING = Place(None, None)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold `out` for this process alone, after any other process that writes to it.

    Raises:
        BundleError: `out` is something else than a bundle.
    """
    _refuse_foreign(out)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(out))
        except Busy:
            say(f"another export writes to '{out}': waiting for it")
            stack.enter_context(locked(out, wait=True))
        yield


def look(out: Path, source: CheckpointEntry, force: bool = False) -> Place:
    """What an export of `source` finds at `out`.

    Raises:
        BundleError: `out` is something else than a bundle, or holds files that no bundle lists; without `force`, a
        bundle that is damaged or of another checkpoint, weights or settings.
    """
    _refuse_foreign(out)
    if not out.exists() or not any(out.iterdir()):
        return NOTHING
    place = _found(out, source)
    if place.replaced and not force:
        raise BundleError(f"'{out}' is {place.replaced}: add --force to replace all that it holds, or use another -o")
    return place


def read_whole(path: Path) -> Bundle:
    """Read a bundle that has no files besides those that its manifest lists.

    Raises:
        BundleError: it is damaged, or holds other files.
    """
    bundle = bundles.read(path)
    _refuse_unlisted(bundle)
    return bundle


def _refuse_unlisted(bundle: Bundle) -> None:
    if unlisted := bundle.unlisted():
        raise BundleError(
            f"'{bundle.path}' holds '{unlisted[0]}', which is not of the bundle: move it away, or use another -o"
        )


def _refuse_foreign(out: Path) -> None:
    """Look at the folder once, because another process may make, fill or remove it meanwhile."""
    try:
        is_taken = any(out.iterdir())
    except FileNotFoundError:
        is_taken = False
    except NotADirectoryError:  # it is a file, or lies below one
        is_taken = out.exists()
    if is_taken and not _looks_like_a_bundle(out):
        raise BundleError(f"'{out}' exists and is not a bundle: choose another -o")


def _looks_like_a_bundle(out: Path) -> bool:
    """Whether there is a manifest of ours, be it damaged or of another version."""
    path = out / MANIFEST
    return path.is_file() and all(key in path.read_bytes() for key in (b'"schema_version"', b'"golden"'))


def _found(out: Path, source: CheckpointEntry) -> Place:
    try:
        bundle = bundles.read(out)
    except BundleError as error:
        return Place(None, f"a bundle that cannot be read ({error})")
    _refuse_unlisted(bundle)
    origin = bundle.manifest.model.checkpoint
    if all(origin[key] == source[key] for key in IDENTITY):  # type: ignore[literal-required]
        try:
            bundle.check_files()
        except BundleError as error:
            return Place(None, f"a bundle that cannot be read ({error})")
        return Place(bundle, None)
    settings = "".join(f", {key}={value}" for key, value in origin["settings"].items())
    return Place(
        None, f"a bundle of {origin['file']} ({origin['sha256'][:12]}…), {origin['weights']} weights{settings}"
    )
