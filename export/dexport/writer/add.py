"""Adds an artifact that is made of another one of the bundle, without PyTorch and without the checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from dexport import targets
from dexport.targets import Source
from dexport.writer.pairs import ArtifactPair, pairs_of
from dexport.writer.place import alone, read_whole
from dexport.writer.staging import Draft, Order, Written, complete, keep_golden
from drun.bundle.artifact import DECODER_TOLERANCES, TOLERANCES, Artifact, Tolerance
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
        source = _source(held, order.target)
        _check_batch(source.denoiser, order.batch)
        with atomic_folder(path) as folder:
            report("converting", 0, 1)
            made = _derived(held, source, order, folder)
            report("converting", 1, 1)
            keep_golden(held, folder)
            decoder = held.manifest.decoder
            shape = decoder.shape if decoder else None
            draft = Draft(folder, held.manifest, held, pairs_of(held.manifest), made, shape, has_new_golden=False)
            written = complete(draft, report)
    return replace(written, bundle=replace(written.bundle, path=path))


def _source(held: Bundle, target: str) -> ArtifactPair:
    """The artifact that the target is made of, always the float32 one: weights that were rounded stay rounded."""
    wanted = targets.source_of(target)
    found = [
        pair for pair in pairs_of(held.manifest) if (pair.denoiser.format, pair.denoiser.precision) == (wanted, "fp32")
    ]
    if not found:
        command = command_from_checkpoint(held, str(wanted))
        what = f"{wanted} artifact in fp32, of which {target} is made"
        raise BundleError(f"bundle '{held.path}' has no {what}: type {command}")
    return found[0]


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


def _derived(held: Bundle, source: ArtifactPair, order: Order, folder: Path) -> ArtifactPair:
    precision = order.precision
    denoiser = _derive(held, "denoiser", source.denoiser, order, TOLERANCES[precision], folder)
    if source.decoder is None:
        return ArtifactPair(denoiser)
    own = replace(order, batch=source.decoder.batch)
    decoder = _derive(held, "decoder", source.decoder, own, DECODER_TOLERANCES[precision], folder)
    return ArtifactPair(denoiser, decoder)


def _derive(
    held: Bundle, network: str, artifact: Artifact, order: Order, tolerance: Tolerance, folder: Path
) -> Artifact:
    stem = f"{network}.{order.precision}"
    with held.using(*artifact.files) as paths:
        if artifact.format == "onnx":
            check_external(paths)
        path = held.path / artifact.root if artifact.root else paths[0]
        batch = order.batch or artifact.batch
        source = Source(stem, path, artifact, order.precision, artifact.io, batch, tolerance)
        derived: Artifact = targets.load(order.target).derive(source, folder)
        return derived
