"""The last steps of every export: copy the remaining files, prove the artifacts, and write the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dexport.proof import proof_of
from dexport.writer.pairs import ArtifactPair, merged, sources_of, with_pairs
from dexport.writer.proving import Proven, prove, prove_again
from drun.bundle import reading as bundles
from drun.bundle.artifact import Artifact, FileEntry
from drun.bundle.manifest import MANIFEST, Manifest
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import ExportError
from drun.files import sha256
from drun.run.golden import read_golden
from drun.run.parity import Comparison

GOLDEN = "golden.npz"


@dataclass(frozen=True)
class Order:
    """The artifact to make."""

    target: str  # a name of `dexport.targets`
    precision: str = "fp32"  # of its graph, one of the target's
    batch: tuple[int, int] | None = None  # smallest and largest of the denoiser; None: any up to 64, or as its source
    variant: str = ""  # a unit, "" for the first; or split: two graphs, the first of all that does not depend on x
    system: int = 0  # the oldest system that is to read it; 0: the target's default, or none
    allow_drift: bool = False  # write an int8 graph even if it fails its proof


@dataclass(frozen=True)
class Draft:
    """A bundle that is being made in `folder`, where the new files and the golden file are."""

    folder: Path
    manifest: Manifest  # artifacts and golden file are still to come
    held: Bundle | None  # the bundle of the same identity that lies at its place
    remaining: Sequence[ArtifactPair]  # the pairs of that bundle, before anything is replaced
    made: ArtifactPair
    image_shape: tuple[int, int, int] | None  # (C, H, W) of a decoded image
    has_new_golden: bool
    allow_drift: bool = False  # see Order

    def bundle(self, pairs: Sequence[ArtifactPair]) -> Bundle:
        golden = FileEntry(GOLDEN, sha256(self.folder / GOLDEN))
        return Bundle(self.folder, replace(with_pairs(self.manifest, pairs, self.image_shape), golden=golden))


@dataclass(frozen=True)
class Written:
    """The result of an export."""

    bundle: Bundle  # the bundle as it is now
    made: str  # the new artifact's id
    results: Sequence[Comparison]  # all its comparisons; empty if it could not be proven here
    unproven: dict[str, str]  # id -> why it could not be proven here
    held: Sequence[str]  # the ids of the artifacts that were there before
    dropped: Sequence[str]  # the ids of dropped artifacts, which were derived from a replaced one
    has_new_golden: bool  # whether there is a new golden file, so that all artifacts were proven again
    is_quick: bool  # whether the golden file is a quick proof
    replaced: str | None = None  # the bundle that was there before, in words, if it was of something else
    remark: str | None = None  # what the backend that proved it says of the numbers that it computed

    @property
    def artifact(self) -> Artifact:
        """The new artifact of the denoiser."""
        return next(artifact for artifact in self.bundle.manifest.artifacts if artifact.id == self.made)


def complete(draft: Draft, report: Report) -> Written:
    """Complete the bundle of a draft, in its folder.

    Raises:
        ParityError: an artifact does not compute what eager PyTorch computes. BundleError: a held file is damaged.
    """
    pairs, dropped = merged(draft.remaining, draft.made)
    if draft.held is not None:
        _copy(draft.held, draft.folder, [one for pair in pairs for one in pair.artifacts], draft.made)
    proven = [_proven(draft, pair, pairs, report) for pair in pairs]
    bundle = draft.bundle([one.pair for one in proven])
    own = next(one for one in proven if one.pair.id == draft.made.id)
    (draft.folder / MANIFEST).write_text(bundle.manifest.to_json(), encoding="utf-8")
    _check(draft.folder, draft.made)
    return Written(
        bundle,
        draft.made.id,
        own.results,
        {one.pair.id: one.unproven for one in proven if one.unproven},
        [artifact.id for artifact in draft.held.manifest.artifacts] if draft.held else (),
        [pair.id for pair in dropped],
        draft.has_new_golden,
        proof_of(read_golden(bundle)).is_quick,
        remark=own.remark,
    )


def keep_golden(held: Bundle, folder: Path) -> None:
    """Copy the golden file. Raises BundleError if it is damaged."""
    with held.using(held.manifest.golden) as (path,):
        shutil.copyfile(path, folder / GOLDEN)


def _copy(held: Bundle, folder: Path, artifacts: Sequence[Artifact], made: ArtifactPair) -> None:
    """Copy the files of the pairs that were not made anew. Raises BundleError if one is damaged."""
    # Each file once, although two pairs may share a decoder.
    entries = [*dict.fromkeys(entry for one in artifacts if one not in made.artifacts for entry in one.files)]
    with held.using(*entries) as paths:
        for path, entry in zip(paths, entries, strict=True):
            target = folder / entry.path
            if target.exists():
                raise ExportError(f"{made.id} and another artifact of '{held.path}' are both written to '{entry.path}'")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _proven(draft: Draft, pair: ArtifactPair, pairs: Sequence[ArtifactPair], report: Report) -> Proven:
    if pair.id != draft.made.id and not draft.has_new_golden:
        return Proven(pair)
    # Alone, so that it is this pair's decoder that is compared, not one that the backend likes better. The graph that
    # it was made of is with it, because it computes the ends of time for a quantised one.
    alone = draft.bundle([pair, *sources_of(pair, pairs)])
    if pair.decoder is None:
        alone = replace(alone, manifest=replace(alone.manifest, decoder=draft.bundle(pairs).manifest.decoder))
    if pair.id == draft.made.id:
        return prove(alone, pair, report, draft.allow_drift)
    return prove_again(alone, pair, report)


def _check(folder: Path, made: ArtifactPair) -> None:
    """Raises ExportError if a target wrote a file that it did not list: the next export would refuse the bundle."""
    if unlisted := bundles.read(folder).unlisted():
        raise ExportError(f"the target of {made.id} wrote '{unlisted[0]}' and does not list it among its files")
