"""The export of a checkpoint: a new bundle, or one more artifact of the bundle that it has."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dexport import describe, targets
from dexport.deploy import deployable, deployable_decoder
from dexport.deploy.split import split
from dexport.fixtures import write_golden
from dexport.latents import ImageDecoder
from dexport.precision import LIMITED, check_range
from dexport.precision.states import States, read_states
from dexport.proof import Proof, proof_of
from dexport.targets import Part
from dexport.writer.pairs import ArtifactPair, joined, pairs_of, shares_decoder
from dexport.writer.place import alone, look
from dexport.writer.staging import GOLDEN, Draft, Order, Written, complete, keep_golden
from drun.bundle.artifact import CONDITION, DECODER_TOLERANCES, SPLIT, TOLERANCES, Artifact, Tensor
from drun.bundle.hashes import is_written_to
from drun.bundle.manifest import CheckpointEntry
from drun.bundle.reading import Bundle
from drun.console import Report, say
from drun.console.interrupts import heeded
from drun.errors import CheckpointError, ConfigError
from drun.files import atomic_folder
from drun.run.golden import Golden, read_golden
from drun.run.opening.split import BLOCK
from dtrain.models import Network
from dtrain.published import Denoiser

#: How many latents the decoder's artifact takes at a time.
DECODER_BATCH = (1, 8)
CONDITIONING_BATCH = (BLOCK, BLOCK)


@dataclass(frozen=True)
class Trained:
    """A checkpoint, loaded."""

    denoiser: Denoiser
    checkpoint: Path  # the file that the denoiser was loaded from
    decoder: ImageDecoder | None = None  # the decoder of a latent model; without it only latents can be drawn

    @property
    def source(self) -> CheckpointEntry:
        own = self.denoiser
        return CheckpointEntry(
            file=self.checkpoint.name,
            sha256=own.sha256,
            weights=own.weights,
            step=own.step,
            settings=own.settings,
            initial_share=own.initial_share,
        )

    def check_file(self) -> None:
        """Raises CheckpointError if the file was written to since it was loaded: the weights may be maps of it."""
        stamp = self.denoiser.stamp
        if stamp is not None and is_written_to(self.checkpoint, stamp):
            raise CheckpointError(f"'{self.checkpoint}' was written to during the export: run the command again")

    def release(self) -> None:
        """Free the memory of all weights. The networks cannot compute any more."""
        for part in (self.denoiser, self.decoder):
            if part is not None:
                part.network.to_empty(device="meta")
        gc.collect()  # what traced them refers to itself


def create_bundle(
    trained: Trained, order: Order, out: Path, proof: Proof, report: Report, force: bool = False, is_last: bool = False
) -> Written:
    """Export a checkpoint to `out`, verified against eager PyTorch.

    A bundle of the same checkpoint, weights and settings keeps its other artifacts. It also keeps its golden file, if
    this version of dexport made it and it compares as much as `proof`; else all artifacts are proven again.

    Args:
        proof: what must be compared at least.
        force: replace a bundle of something else.
        is_last: free the memory of the networks before the proof, in which the runtime has a copy of its own; they
            cannot compute any more.

    Raises:
        ParityError: the target does not compute what eager PyTorch computes; what was at `out` is left alone.
        BundleError: `out` is not a bundle, or without `force` one of something else. ConfigError: the proof is made
        anew, and the decoder that the bundle has is not here. CheckpointError: its file was written to meanwhile.
    """
    with alone(out):
        place = look(out, trained.source, force)
        with atomic_folder(out) as folder:
            draft = _draft(trained, order, place.held, folder, proof, report)
            trained.check_file()
            if is_last:
                trained.release()
            written = complete(draft, report)
    return replace(written, bundle=replace(written.bundle, path=out), replaced=place.replaced)


def _draft(trained: Trained, order: Order, held: Bundle | None, folder: Path, proof: Proof, report: Report) -> Draft:
    plan = _plan(trained, held, proof)
    manifest = describe.manifest(trained.denoiser, trained.source)
    if plan.proof is not None:
        write_golden(folder / GOLDEN, trained.denoiser, plan.proof, report, trained.decoder)
    elif held is not None:
        keep_golden(held, folder)
    report("tracing the graph", 0, 1)
    states = read_states(folder / GOLDEN) if order.precision == LIMITED else None
    with heeded():  # exporters catch whatever is raised within them
        made = export_pair(trained, order, folder, plan.remaining, states)
    report("tracing the graph", 1, 1)
    return Draft(folder, manifest, held, plan.remaining, made, plan.image_shape, plan.proof is not None)


def export_pair(
    trained: Trained,
    order: Order,
    folder: Path,
    remaining: Sequence[ArtifactPair] = (),
    states: States | None = None,
) -> ArtifactPair:
    """Write the artifacts of an order into a folder, without a bundle around them and without a proof.

    Args:
        remaining: the pairs of the bundle that it will belong to, of which one may hold the decoder.
        states: inputs at which the network must stay within the range of its precision; None: it is not looked at.
    """
    target = targets.load(order.target)
    export = target.export
    network = deployable(trained.denoiser.network)
    if states:
        check_range(network, states.calls)
    io = describe.io_of(trained.denoiser.card)
    system = order.system or targets.chosen_system(order.target, None)
    variant = order.variant or next(iter(targets.units(order.target)), "")
    part = Part(
        "-".join(filter(None, (f"denoiser.{order.precision}", variant))),
        trained.denoiser.network,
        network,
        order.precision,
        io,
        order.batch or targets.usual_batch(order.target, system),
        TOLERANCES[order.precision],
        "" if variant == SPLIT else variant,
        system,
        describe.metadata(trained.denoiser, trained.source),
    )
    is_split = variant in (SPLIT, *getattr(target, "SPLIT_UNITS", ()))
    denoiser: Artifact = _split(part, export, folder) if is_split else export(part, folder)
    if trained.decoder is None or shares_decoder(denoiser, remaining):
        return ArtifactPair(denoiser)
    decoder = _decoder_part(trained.decoder, part, getattr(target, "DECODER_BATCH", DECODER_BATCH))
    if states:
        check_range(decoder.deployable, states.latents)
    return ArtifactPair(denoiser, export(decoder, folder))


def _split(part: Part, export: Callable[[Part, Path], Artifact], folder: Path) -> Artifact:
    """The artifact of a denoiser in two graphs, of which the first is always in float32."""
    assert isinstance(part.deployable, Network)
    x, *conditions, out = part.io
    first, second, width = split(part.deployable)
    between = Tensor(CONDITION, "float32", ("N", width), "what the blocks need of time and label")
    conditioning = replace(
        part,
        stem=part.stem.replace("denoiser", "conditioning", 1),
        network=first,
        deployable=first,
        precision="fp32",
        io=(*conditions, between),
        batch=CONDITIONING_BATCH,
        tolerance=TOLERANCES["fp32"],
        unit="",
    )
    denoiser = replace(part, network=second, deployable=second, io=(x, between, out))
    return joined(export(conditioning, folder), export(denoiser, folder))


def _decoder_part(decoder: ImageDecoder, denoiser: Part, batch: tuple[int, int]) -> Part:
    io = (
        Tensor("z", "float32", denoiser.inputs[0].shape, "latents as the sampler leaves them"),
        Tensor("image", "float32", ("N", *decoder.shape), "RGB in about -1 to 1"),
    )
    return replace(
        denoiser,
        stem=f"decoder.{denoiser.precision}",
        network=decoder.network,
        deployable=deployable_decoder(decoder.network),
        io=io,
        batch=batch,
        tolerance=DECODER_TOLERANCES[denoiser.precision],
        unit="",
    )


# ---- what becomes of the bundle that is there -----------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    proof: Proof | None  # the proof of a new golden file; None: the existing one is kept
    remaining: Sequence[ArtifactPair]
    image_shape: tuple[int, int, int] | None


def _plan(trained: Trained, held: Bundle | None, proof: Proof) -> _Plan:
    """Decide what to keep. Raises ConfigError if a new golden file needs a decoder that is not here."""
    decoder, entry = trained.decoder, held.manifest.decoder if held else None
    own = decoder or entry
    shape = own.shape if own else None
    if held is None:
        return _Plan(proof, (), shape)
    golden, pairs = read_golden(held), pairs_of(held.manifest)
    is_same = decoder is None or _is_of(decoder, golden)
    proven = proof_of(golden)
    if held.manifest.created_by == describe.created_by() and proven.covers(proof) and is_same:
        return _Plan(None, pairs, shape)
    if decoder is None and entry is not None:
        raise ConfigError(
            f"the golden file of '{held.path}' is to be made anew, and with it the images of its decoder: "
            "name the decoder's VAE by --vae NAME_OR_DIR, or use another -o"
        )
    return _Plan(proven.united(proof), pairs if is_same else _without_decoders(pairs), shape)


@torch.no_grad()
def _is_of(decoder: ImageDecoder, golden: Golden) -> bool:
    """Whether this decoder made the images of a golden file."""
    if golden.decoded is None:
        return False
    z, images = golden.decoded
    if images.shape[1:] != decoder.shape:
        return False
    error = decoder.network(torch.from_numpy(z)).numpy() - images
    return bool(np.linalg.norm(error) <= DECODER_TOLERANCES["fp32"].call * np.linalg.norm(images))


def _without_decoders(pairs: Sequence[ArtifactPair]) -> list[ArtifactPair]:
    """The bundle without decoders: the decoder has changed, and the other pairs have no artifact of the new one."""
    if old := [pair.id for pair in pairs if pair.decoder]:
        say(f"the VAE is another one: the bundle loses the old decoder of {', '.join(old)}")
    return [replace(pair, decoder=None) for pair in pairs]
