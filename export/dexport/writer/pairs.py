"""Pairs of artifacts, and the pairs that remain beside a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drun.bundle.artifact import Artifact
from drun.bundle.manifest import DecoderEntry, Manifest


@dataclass(frozen=True)
class ArtifactPair:
    """The artifacts of one identity: the denoiser's and, for some latent models, the decoder's."""

    denoiser: Artifact
    decoder: Artifact | None = None

    @property
    def id(self) -> str:
        return self.denoiser.id

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return (self.denoiser,) if self.decoder is None else (self.denoiser, self.decoder)


def pairs_of(manifest: Manifest) -> list[ArtifactPair]:
    decoders = {artifact.id: artifact for artifact in manifest.decoder.artifacts} if manifest.decoder else {}
    return [ArtifactPair(artifact, decoders.get(artifact.id)) for artifact in manifest.artifacts]


def with_pairs(manifest: Manifest, pairs: Sequence[ArtifactPair], shape: tuple[int, int, int] | None) -> Manifest:
    """A manifest of these artifacts alone.

    Args:
        shape: (C, H, W) of a decoded image, if any artifact decodes.
    """
    decoders = tuple(pair.decoder for pair in pairs if pair.decoder)
    decoder = DecoderEntry(shape, decoders) if shape and decoders else None
    return replace(manifest, artifacts=tuple(pair.denoiser for pair in pairs), decoder=decoder)


def merged(held: Sequence[ArtifactPair], made: ArtifactPair) -> tuple[list[ArtifactPair], list[ArtifactPair]]:
    """The pairs of a bundle after `made` took its place, and the dropped ones, whose source is no longer there.

    A decoder that was not made again stays.
    """
    old = {pair.id: pair for pair in held}
    if made.decoder is None and made.id in old:
        made = replace(made, decoder=old[made.id].decoder)
    remaining = list((old | {made.id: made}).values())
    while dropped := [pair for pair in remaining if _is_orphan(pair, remaining)]:
        remaining = [pair for pair in remaining if pair not in dropped]
    return remaining, [pair for pair in held if pair.id not in {other.id for other in remaining}]


def _is_orphan(pair: ArtifactPair, pairs: Sequence[ArtifactPair]) -> bool:
    sources = {artifact.files[0].sha256 for other in pairs if other != pair for artifact in other.artifacts}
    return any(artifact.derived_from not in (None, *sources) for artifact in pair.artifacts)
