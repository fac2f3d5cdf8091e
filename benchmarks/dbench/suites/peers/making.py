"""The network that is measured, and its bundle: of a checkpoint, or of random weights by a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbench.core import networks
from dbench.core.networks import Origin
from dbench.core.origin import denoiser_of
from dbench.suites.peers.settings import PeersSettings
from dexport import targets
from dexport.proof import QUICK_PROOF
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.manifest import MANIFEST
from drun.bundle.reading import Bundle
from drun.console import Report, warn
from drun.errors import ConfigError, UserError
from dtrain.published import Denoiser


@dataclass(frozen=True)
class Subject:
    """The network in eager PyTorch, and its bundle."""

    denoiser: Denoiser
    bundle: Bundle
    is_random: bool  # nobody trained the weights: their speed is real, their loss in int8 is not a trained network's


def prepare(settings: PeersSettings, folder: Path, report: Report) -> Subject:
    """Load the checkpoint or make one, and take its bundle or export one.

    Args:
        folder: an empty one, for what no option gives a place.

    Raises:
        ConfigError: neither a checkpoint nor a recipe, a setting that it does not have, or a bundle of something else.
        UserError: no target can be exported here.
    """
    origin = networks.find(settings.model, settings.assignments, folder)
    path = settings.bundle or folder / _name(settings.model, origin)
    is_there = (path / MANIFEST).is_file()
    if is_there and origin.settings:
        raise ConfigError(f"--set got '{settings.assignments[0]}', '{path}' was exported already: leave it out")
    denoiser = denoiser_of(bundles.read(path), origin.checkpoint) if is_there else origin.load()
    names = settings.targets or (() if is_there else _competing())
    _check(names)
    orders = _orders(names if is_there else _with_sources(names), settings.precisions, origin.is_random)
    _export_all(Trained(denoiser, origin.checkpoint), orders, path, report)
    return Subject(denoiser, bundles.open_bundle(path), origin.is_random)


def _competing() -> tuple[str, ...]:
    """The targets of which a backend that is here computes something to be fast."""
    return tuple(
        name
        for name in targets.names()
        if any(not backends.load(targets.prover(name, one)).is_reference for one in targets.precisions(name))
    )


def _name(model: str, origin: Origin) -> str:
    return Path(model).stem if origin.is_random else origin.checkpoint.stem


# ---- the bundle -----------------------------------------------------------------------------------------


def _check(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in targets.names()]:
        raise ConfigError(f"--target got '{unknown[0]}', expected one of {', '.join(targets.names())}")


def _with_sources(names: Sequence[str]) -> list[str]:
    """The targets, and those whose artifacts they are made of."""
    sources = [targets.source_of(name) for name in names]
    return [*dict.fromkeys([*filter(None, sources), *names])]


def _orders(names: Sequence[str], precisions: Sequence[str], is_random: bool) -> list[Order]:
    """Every precision and variant of these targets; those that are made of another one come last.

    Args:
        precisions: those to compare in; empty: all. Graphs in fp32 are always made: a hint computes them in others.
        is_random: whether int8 may lose what it likes, for nobody looks at the images of random weights.
    """
    return [
        Order(name, precision, variant=variant, allow_drift=is_random and precision == "int8")
        for name in sorted(names, key=lambda name: targets.source_of(name) is not None)
        for precision in targets.precisions(name)
        if not precisions or precision in ("fp32", *precisions)
        for variant in targets.variants(name, precision)
    ]


def _export_all(trained: Trained, orders: Sequence[Order], path: Path, report: Report) -> None:
    """Make every artifact; what cannot be made or proven here is named in a warning.

    Raises UserError if nothing was made, with the reason of the first.
    """
    failed: dict[str, UserError] = {}
    for order in orders:
        try:
            _export(trained, order, path, report)
        except UserError as error:
            failed["-".join(filter(None, (order.target, order.precision, order.variant)))] = error
    if failed and not (path / MANIFEST).is_file():
        raise next(iter(failed.values()))
    for made, reason in failed.items():
        warn(f"{made} is not measured: {reason}")


def _export(trained: Trained, order: Order, path: Path, report: Report) -> None:
    if targets.source_of(order.target) is None:
        create_bundle(trained, order, path, QUICK_PROOF, report)
    else:
        add_artifact(path, order, report)
