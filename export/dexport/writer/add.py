"""One more artifact for a bundle, made of one that it holds: without PyTorch and without the checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from dexport import targets
from dexport.targets import Source
from dexport.writer.pairs import ArtifactPair, pairs_of
from dexport.writer.place import alone, read_whole
from dexport.writer.staging import Draft, Written, complete, keep_golden
from drun.bundle.artifact import DECODER_TOLERANCES, TOLERANCES, Artifact, Tolerance
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BundleError, ConfigError
from drun.files import atomic_folder

Batch = tuple[int, int]


def add_artifact(path: Path, target: str, precision: str, report: Report, batch: Batch | None = None) -> Written:
    """Derive an artifact, prove it on the bundle's golden file and put it into the bundle.

    Args:
        path: of the bundle.
        target: a name of `dexport.targets` that has a SOURCE.
        precision: of the graph to make, one of the target's.
        batch: smallest and largest batch of the denoiser; None: those of its source.

    Raises:
        BundleError: it is damaged, or lacks what the target is made of. ConfigError: the source takes no such batch.
        ParityError: the artifact does not compute what eager PyTorch computed; the bundle is left alone.
    """
    with alone(path):
        held = read_whole(path)
        source = _source(held, target)
        _check_batch(source.denoiser, batch)
        with atomic_folder(path) as folder:
            report("converting", 0, 1)
            made = _derived(held, source, target, precision, batch, folder)
            report("converting", 1, 1)
            keep_golden(held, folder)
            decoder = held.manifest.decoder
            shape = decoder.shape if decoder else None
            draft = Draft(folder, held.manifest, held, pairs_of(held.manifest), made, shape, has_new_golden=False)
            written = complete(draft, report)
    return replace(written, bundle=replace(written.bundle, path=path))


def _source(held: Bundle, target: str) -> ArtifactPair:
    """What the target is made of: in float32, if the bundle holds it so."""
    wanted = targets.source_of(target)
    found = [pair for pair in pairs_of(held.manifest) if pair.denoiser.format == wanted]
    if not found:
        command = shlex.join(["dexport", str(wanted), held.manifest.model.checkpoint["file"], "-o", str(held.path)])
        raise BundleError(f"bundle '{held.path}' has no {wanted} artifact, of which {target} is made: type {command}")
    return min(found, key=lambda pair: pair.denoiser.precision != "fp32")


def _check_batch(source: Artifact, batch: Batch | None) -> None:
    low, high = source.batch
    if batch is not None and not low <= batch[0] <= batch[1] <= high:
        got = f"{batch[0]}..{batch[1]}"
        raise ConfigError(
            f"--batch got {got}, {source.id} takes {low} to {high}: choose sizes in it, or export it again"
        )


def _derived(
    held: Bundle, source: ArtifactPair, target: str, precision: str, batch: Batch | None, folder: Path
) -> ArtifactPair:
    def derive(stem: str, artifact: Artifact, sizes: Batch, tolerance: Tolerance) -> Artifact:
        with held.using(*artifact.files) as paths:
            path = held.path / artifact.root if artifact.root else paths[0]
            own = Source(f"{stem}.{precision}", path, artifact, precision, artifact.io, sizes, tolerance)
            made: Artifact = targets.load(target).derive(own, folder)
            return made

    denoiser = derive("denoiser", source.denoiser, batch or source.denoiser.batch, TOLERANCES[precision])
    if source.decoder is None:
        return ArtifactPair(denoiser)
    return ArtifactPair(
        denoiser, derive("decoder", source.decoder, source.decoder.batch, DECODER_TOLERANCES[precision])
    )
