"""Reads the sources of a page, and joins only those that belong together by their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from dbench import suites
from dbench.core import record, subject
from dbench.core.record import Result
from drun.bundle import reading as bundles
from drun.bundle.manifest import Manifest
from drun.bundle.reading import Bundle
from drun.console import warn
from drun.errors import ConfigError, DataError, door
from drun.files import sha256
from drun.foreign import parse_json, read_json
from drun.run.record import ANIMATION


@dataclass(frozen=True)
class Sources:
    """The paths of the material. Only the bundle is required: without it there is nothing to prove."""

    bundle: Path
    run: Path | None = None  # of dtrain: recipe.json and log.jsonl
    samples: Path | None = None  # of drun: run.json, samples.npz and grid.png
    results: tuple[Path, ...] = ()  # files of dbench, or folders that may also hold results of other models
    animation: Path | None = None  # of drun --trajectory


@dataclass(frozen=True)
class Training:
    """A run of `dtrain`."""

    folder: Path
    recipe: dict[str, Any]
    steps: list[int]
    losses: list[float]  # as many
    is_proven: bool  # whether the bundle's checkpoint lies in the folder


@dataclass(frozen=True)
class Drawn:
    """A folder of `drun`."""

    folder: Path
    run: dict[str, Any]  # its run.json
    samples_sha256: str


@dataclass(frozen=True)
class Material:
    """All material of one model."""

    bundle: Bundle
    training: Training | None = None
    drawn: Drawn | None = None
    results: list[Result] = field(default_factory=list)
    pictures: dict[str, dict[str, Path]] = field(default_factory=dict)  # a result's file name -> the pictures beside it
    animation: Path | None = None


def gather(sources: Sources) -> Material:
    """Read everything and refuse what does not belong to the bundle; a folder of results may hold others.

    Raises:
        DataError: something is missing, broken, or of another model. BundleError: there is no bundle.
        ConfigError: an animation without the samples that say whose it is.
    """
    bundle = bundles.open_bundle(sources.bundle)
    of: dict[str, Any] = {key: value for key, value in subject.of_bundle(bundle).items() if key in subject.TIES}
    training = None if sources.run is None else read_training(sources.run, bundle)
    if training is not None:
        of["recipe_sha256"] = subject.of_recipe(training.recipe)["recipe_sha256"]
    drawn = None if sources.samples is None else read_drawn(sources.samples, of)
    if drawn is not None:
        of["samples_sha256"] = drawn.samples_sha256
    if sources.animation is not None:
        check_animation(sources.animation, drawn)
    found = read_results(sources.results, of)
    pictures = {result.file_name: beside(path) for path, result in found}
    return Material(bundle, training, drawn, [result for _, result in found], pictures, sources.animation)


# ---- training -------------------------------------------------------------------------------------------


def read_training(folder: Path, bundle: Bundle) -> Training:
    """The run that the bundle's checkpoint came from, or may have come from if it was deleted.

    Raises:
        DataError: something is missing or broken, or the run trained another network.
    """
    recipe = read_json(present(folder / "recipe.json"))
    steps, losses = read_losses(folder / "log.jsonl")
    checkpoint = bundle.manifest.model.checkpoint
    is_proven = _holds(folder, checkpoint["sha256"], checkpoint["file"])
    if not is_proven:
        if why := _contradiction(folder, recipe, steps[-1], bundle.manifest):
            raise DataError(
                f"'{folder}' does not belong to bundle '{bundle.name}': {why}; give the run that the bundle is of, or "
                "none"
            )
        warn(
            f"'{folder}' does not hold {checkpoint['file']}, which '{bundle.name}' was exported from: nothing proves "
            "that they belong together, and the report says so"
        )
    return Training(folder, recipe, steps, losses, is_proven)


def _contradiction(folder: Path, recipe: dict[str, Any], num_steps: int, manifest: Manifest) -> str:
    """Evidence that a run never had the bundle's checkpoint; empty if there is none."""
    checkpoint = manifest.model.checkpoint
    if (folder / checkpoint["file"]).is_file():
        return f"its {checkpoint['file']} has another sha256"
    if (checkpoint["step"] or 0) > num_steps:
        return f"its log ends at step {num_steps:,}, the checkpoint is of step {checkpoint['step']:,}"
    stated = {"model": manifest.model.config | {"name": manifest.model.name}}
    if manifest.trained_on is not None:
        stated["data"] = {key: getattr(manifest.trained_on, key) for key in ("image_size", "fingerprint")}
        if manifest.classes is not None:
            stated["data"]["class_names"] = list(manifest.classes.names)
    for section, values in stated.items():
        for key in values.keys() & recipe[section].keys():
            if (got := recipe[section][key]) != values[key]:
                return f"its recipe has another {section}.{key}, {got!r:.40} instead of {values[key]!r:.40}"
    return ""


def _holds(folder: Path, digest: str, name: str) -> bool:
    """Whether a checkpoint lies in a folder; the file of its name is hashed first, because files may be large."""
    paths = sorted(folder.glob("*.pt"), key=lambda path: path.name != name)
    return any(sha256(path) == digest for path in paths)


def read_losses(path: Path) -> tuple[list[int], list[float]]:
    """Steps and losses of a training log.

    Raises:
        DataError: it is missing, empty or broken.
    """
    with door(f"'{path}' is not a training log", advice="give the folder of 'dtrain run'"):
        lines = [parse_json(line) for line in present(path).read_bytes().splitlines()]
        steps, losses = [int(line["step"]) for line in lines], [float(line["loss"]) for line in lines]
    if not steps or not np.isfinite(losses).all():
        raise DataError(f"'{path}' holds no losses that can be drawn: expected finite ones")
    return steps, losses


# ---- samples --------------------------------------------------------------------------------------------


def read_drawn(folder: Path, of: dict[str, str]) -> Drawn:
    """Samples that were drawn from the bundle.

    Raises:
        DataError: they are missing or unfinished, or of another bundle.
    """
    run = read_json(present(folder / "run.json"))
    found = subject.of_samples(present(folder / "samples.npz"), run)
    if why := subject.mismatch(found, of):
        raise DataError(f"'{folder}' does not belong to this bundle: it is {why}; draw samples from this one")
    return Drawn(folder, run, found["samples_sha256"])


def check_animation(path: Path, drawn: Drawn | None) -> None:
    """Raises DataError if an animation is not that of the samples, ConfigError if there are none."""
    if drawn is None:
        raise ConfigError("--animation needs --samples: their run.json says whose animation it is")
    if drawn.run.get(ANIMATION) != sha256(present(path)):
        raise DataError(
            f"'{path}' is not the animation of '{drawn.folder}': give what 'drun --trajectory' wrote with them"
        )


# ---- results --------------------------------------------------------------------------------------------


def read_results(paths: Sequence[Path], of: dict[str, str]) -> list[tuple[Path, Result]]:
    """The results of a model, each once and sorted; one warning names the results of other models in folders.

    Args:
        of: the hashes of the model, as `dbench.core.subject.mismatch` takes them.

    Raises:
        DataError: there are none, or a file that was given by its name is broken or of another model.
    """
    found = [pair for path in paths for pair in (_of_folder if path.is_dir() else _of_file)(path, of)]
    results = [result for _, result in found]
    once = [pair for i, pair in enumerate(found) if pair[1] not in results[:i]]
    return sorted(once, key=lambda pair: (pair[1].suite, *subject.order(pair[1].subject)))


def beside(path: Path) -> dict[str, Path]:
    """Name -> the pictures that `dbench` wrote beside a result."""
    prefix = f"{path.stem}-"
    return {found.stem.removeprefix(prefix): found for found in path.parent.glob(f"{escape(prefix)}*.png")}


def _read(path: Path) -> Result:
    """Read a result. Raises DataError if its suite is unknown: the name of the suite decides what is imported."""
    result = record.read(present(path))
    if result.suite not in suites.names():
        raise DataError(f"'{path}' is of suite {result.suite!r:.40}, expected one of {', '.join(suites.names())}")
    return result


def _of_file(path: Path, of: dict[str, str]) -> Iterator[tuple[Path, Result]]:
    result = _read(path)
    if why := subject.mismatch(result.subject, of):
        raise DataError(f"'{path}' does not belong to {_wanted(of)}: it is {why}; leave it out, or measure this one")
    yield path, result


def _of_folder(folder: Path, of: dict[str, str]) -> Iterator[tuple[Path, Result]]:
    paths = sorted(folder.glob("*.json"))
    if not paths:
        wanted = " or ".join(f"'dbench {suite}'" for suite in suites.names())
        raise DataError(f"no results in '{folder}': measure with {wanted} first")
    left_out = []
    for path in paths:
        try:
            result = _read(path)
        except DataError as error:
            warn(f"left out of the report: {error}")
            continue
        if why := subject.mismatch(result.subject, of):
            left_out.append(f"'{path.name}' ({why})")
        else:
            yield path, result
    if left_out:
        warn(f"left out of the report, for they are not of {_wanted(of)}: {', '.join(left_out)}")


def _wanted(of: dict[str, str]) -> str:
    return "this bundle or these samples" if "samples_sha256" in of else "this bundle"


def present(path: Path) -> Path:
    """Raises DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"the report needs '{path}', which is missing: see 'dbench report --help' for what makes it")
    return path
