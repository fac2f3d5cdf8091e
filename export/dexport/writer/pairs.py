"""Pairs of artifacts, and the pairs that remain beside a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drun.bundle.artifact import CONDITION, SPLIT, Artifact, Conditioning, identity
from drun.bundle.manifest import DecoderEntry, Manifest


@dataclass(frozen=True)
class ArtifactPair:
    """The artifacts of one identity: the denoiser's and, for some latent models, the decoder's.

    The variants of a denoiser share a decoder.
    """

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
    return [ArtifactPair(artifact, decoders.get(decoder_id(artifact))) for artifact in manifest.artifacts]


def decoder_id(denoiser: Artifact) -> str:
    """The identity of the decoder beside a denoiser."""
    return identity(denoiser.format, denoiser.precision)


def shares_decoder(denoiser: Artifact, pairs: Sequence[ArtifactPair]) -> bool:
    """Whether a variant of a denoiser needs no decoder of its own, as one of these pairs has it."""
    shared = decoder_id(denoiser)
    return denoiser.variant != "" and any(pair.decoder and pair.decoder.id == shared for pair in pairs)


def joined(conditioning: Artifact, denoiser: Artifact) -> Artifact:
    """One artifact of both graphs of a network: (t[, y]) -> c and (x, c) -> out."""
    *conditions, c = conditioning.io
    x, between, out = denoiser.io
    assert c.name == CONDITION
    assert c == between
    paths = tuple(entry.path for entry in conditioning.files)
    return replace(
        denoiser,
        io=(x, *conditions, out),
        files=(*denoiser.files, *conditioning.files),
        variant=denoiser.variant or SPLIT,
        conditioning=Conditioning(paths, int(c.shape[1]), conditioning.batch, conditioning.root),
    )


def with_pairs(manifest: Manifest, pairs: Sequence[ArtifactPair], shape: tuple[int, int, int] | None) -> Manifest:
    """A manifest of these artifacts alone.

    Args:
        shape: (C, H, W) of a decoded image, if any artifact decodes.
    """
    decoders: dict[str, Artifact] = {}
    for pair in pairs:
        known = pair.decoder and decoders.get(pair.decoder.id)
        if pair.decoder and (known is None or known.parity is None):
            decoders[pair.decoder.id] = pair.decoder
    decoder = DecoderEntry(shape, tuple(decoders.values())) if shape and decoders else None
    return replace(manifest, artifacts=tuple(pair.denoiser for pair in pairs), decoder=decoder)


def merged(held: Sequence[ArtifactPair], made: ArtifactPair) -> tuple[list[ArtifactPair], list[ArtifactPair]]:
    """The pairs of a bundle after `made` took its place, and the dropped ones, whose source is no longer there.

    A decoder that was not made again stays; one that was made again is that of all denoisers that share it.
    """
    decoders = {pair.decoder.id: pair.decoder for pair in (*held, made) if pair.decoder}
    pairs = ({pair.id: pair for pair in held} | {made.id: made}).values()
    remaining = [replace(pair, decoder=decoders.get(decoder_id(pair.denoiser))) for pair in pairs]
    while dropped := [pair for pair in remaining if _is_orphan(pair, remaining)]:
        remaining = [pair for pair in remaining if pair not in dropped]
    return remaining, [pair for pair in held if pair.id not in {other.id for other in remaining}]


def sources_of(pair: ArtifactPair, pairs: Sequence[ArtifactPair]) -> list[ArtifactPair]:
    """The pairs of the graph that the denoiser was derived from, without their decoders."""
    sha256, others = pair.denoiser.derived_from, [one for one in pairs if one.id != pair.id]
    return [replace(one, decoder=None) for one in others if one.denoiser.files[0].sha256 == sha256]


def _is_orphan(pair: ArtifactPair, pairs: Sequence[ArtifactPair]) -> bool:
    sources = {artifact.files[0].sha256 for other in pairs if other != pair for artifact in other.artifacts}
    return any(artifact.derived_from not in (None, *sources) for artifact in pair.artifacts)
