"""Adds an artifact that is made of another one of the bundle, without PyTorch and without the checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from dexport import targets
from dexport.targets import Source
from dexport.writer.pairs import ArtifactPair, joined, pairs_of, shares_decoder
from dexport.writer.place import alone, read_whole
from dexport.writer.staging import Draft, Order, Written, complete, keep_golden
from drun.bundle.artifact import DECODER_TOLERANCES, INT8, SPLIT, TOLERANCES, Artifact, Tolerance
from drun.bundle.onnx_files import check_external
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BundleError, ConfigError
from drun.files import atomic_folder


def add_artifact(path: Path, order: Order, report: Report) -> Written:
    """Derive an artifact, prove it on the bundle's golden file and put it into the bundle.

    Args:
        path: the folder of the bundle. order: an order for a target that has a SOURCE.

    Raises:
        BundleError: it is damaged, or lacks what the target is made of. ConfigError: the source takes no such batch.
        ParityError: the artifact does not compute what eager PyTorch computed; the bundle is left alone.
    """
    with alone(path):
        held = read_whole(path)
        source = _source(held, order)
        _check_batch(source.denoiser, order.batch)
        with atomic_folder(path) as folder:
            report("converting", 0, 1)
            made = _derived(held, source, order, folder, report)
            report("converting", 1, 1)
            keep_golden(held, folder)
            decoder = held.manifest.decoder
            shape = decoder.shape if decoder else None
            draft = Draft(folder, held.manifest, held, pairs_of(held.manifest), made, shape, False, order.allow_drift)
            written = complete(draft, report)
    return replace(written, bundle=replace(written.bundle, path=path))


def _source(held: Bundle, order: Order) -> ArtifactPair:
    """The artifact that the ordered one is made of."""
    wanted, is_split = targets.source_of(order.target), order.variant == SPLIT
    precision = targets.source_precision(order.target, order.precision)
    for pair in pairs_of(held.manifest):
        own = pair.denoiser
        if (own.format, own.precision, own.conditioning is not None) == (wanted, precision, is_split):
            return pair
    command = command_from_checkpoint(held, str(wanted)) + (" --split" if is_split else "")
    command += "" if precision == "fp32" else f" --precision {precision}"
    what = f"{'split ' if is_split else ''}{wanted} artifact in {precision}, of which {order.target} is made"
    raise BundleError(f"bundle '{held.path}' has no {what}: type {command}")


def command_from_checkpoint(bundle: Bundle, target: str) -> str:
    """The command that adds an artifact to a bundle from its checkpoint."""
    checkpoint = bundle.manifest.model.checkpoint
    words = ["dexport", target, f"PATH/TO/{checkpoint['file']}", "-o", str(bundle.path)]
    if checkpoint["weights"] != "ema":
        words += ["--weights", checkpoint["weights"]]
    for key, value in checkpoint["settings"].items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def _check_batch(source: Artifact, batch: tuple[int, int] | None) -> None:
    low, high = source.batch
    if batch is not None and not low <= batch[0] <= batch[1] <= high:
        got = f"{batch[0]}..{batch[1]}"
        raise ConfigError(f"--batch got {got}, {source.id} takes {low}..{high}: choose sizes in it, or export it again")


def _derived(held: Bundle, source: ArtifactPair, order: Order, folder: Path, report: Report) -> ArtifactPair:
    precision = order.precision
    denoiser = _derived_denoiser(held, source.denoiser, order, folder, report)
    # The decoder stays in float32 beside int8: it is called once an image, so that there is little to gain.
    if source.decoder is None or precision == INT8 or shares_decoder(denoiser, pairs_of(held.manifest)):
        return ArtifactPair(denoiser)
    own = replace(order, batch=source.decoder.batch)
    decoder = _derive(held, f"decoder.{precision}", source.decoder, own, DECODER_TOLERANCES[precision], folder, report)
    return ArtifactPair(denoiser, decoder)


def _derived_denoiser(held: Bundle, source: Artifact, order: Order, folder: Path, report: Report) -> Artifact:
    tolerance = TOLERANCES[order.precision]
    if source.conditioning is None:
        return _derive(held, f"denoiser.{order.precision}", source, order, tolerance, folder, report)
    first, second = source.stages()
    identity = f"{order.precision}-{SPLIT}"
    as_it_is = replace(order, precision="fp32", batch=None)
    conditioning = _derive(held, f"conditioning.{identity}", first, as_it_is, TOLERANCES["fp32"], folder, report)
    return joined(conditioning, _derive(held, f"denoiser.{identity}", second, order, tolerance, folder, report))


def _derive(
    held: Bundle, stem: str, artifact: Artifact, order: Order, tolerance: Tolerance, folder: Path, report: Report
) -> Artifact:
    with held.using(*artifact.files) as paths:
        if artifact.format == "onnx":
            check_external(paths)
        path = held.path / artifact.root if artifact.root else paths[0]
        batch = order.batch or artifact.batch
        source = Source(stem, path, artifact, order.precision, artifact.io, batch, tolerance, held, report)
        derived: Artifact = targets.load(order.target).derive(source, folder)
        return derived
