"""A bundle appears under its name only when it is complete and has passed its own proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dexport import describe, targets
from dexport.deploy import deployable, deployable_decoder
from dexport.fixtures import Proof, write_golden
from dexport.latents import ImageDecoder
from dexport.targets import Part
from drun.bundle import reading as bundles
from drun.bundle.artifact import Artifact, FileEntry, Tensor, Tolerance
from drun.bundle.manifest import MANIFEST, CheckpointEntry, DecoderEntry, Manifest
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import BundleError, ParityError
from drun.files import atomic_folder, sha256
from drun.run import parity
from drun.run.opening import choose, open_candidate
from dtrain.published import Denoiser

GOLDEN = "golden.npz"
#: What makes a bundle this one and not another.
IDENTITY = ("sha256", "weights", "settings")
DENOISER_TOLERANCE = Tolerance(call=1e-5, trajectory=1e-3)
#: ONNX Runtime is 1.3e-6 away at Stable Diffusion's size and 256 pixels (random weights); an 8-bit level is 4e-3.
DECODER_TOLERANCE = Tolerance(call=5e-5, trajectory=5e-5)
#: `drun` opens a decoder by ONNX Runtime whatever runs the denoiser, a few latents at a time.
DECODER_TARGET, DECODER_BATCH = "onnx", (1, 8)


@dataclass(frozen=True)
class Written:
    """What `write_bundle` did."""

    results: list[parity.Comparison]  # every comparison made
    replaced: str | None  # the bundle that was there before, in words, if it was of something else


def write_bundle(
    denoiser: Denoiser,
    checkpoint: Path,
    target: str,
    out: Path,
    batch: tuple[int, int],
    proof: Proof,
    report: Report,
    decoder: ImageDecoder | None = None,
    force: bool = False,
) -> Written:
    """Export a denoiser to `out`, verified against eager PyTorch.

    Args:
        checkpoint: the file that the denoiser was loaded from.
        target: a name of `dexport.targets`.
        batch: smallest and largest batch of the graph.
        proof: what is computed by both and compared.
        decoder: of a latent model; without it only latents can be drawn.
        force: replace a bundle of something else.

    Raises:
        ParityError: the target does not compute what eager PyTorch computes; what was at `out` is left alone.
        BundleError: `out` is not a bundle, or one of something else.
    """
    source = CheckpointEntry(
        file=checkpoint.name, sha256=denoiser.sha256, weights=denoiser.weights, step=denoiser.step,
        settings=denoiser.settings, initial_share=denoiser.initial_share,
    )  # fmt: skip
    replaced = check_replaceable(out, source, force, proof.is_quick)
    with atomic_folder(out) as folder:
        report("tracing the graph", 0, 1)
        network = deployable(denoiser.network)
        num_parameters = sum(parameter.numel() for parameter in network.parameters())
        manifest = describe.manifest(denoiser, num_parameters, source)
        part = Part("denoiser.fp32", network, describe.io_of(denoiser.card), batch, DENOISER_TOLERANCE)
        artifact = targets.load(target).export(part, folder)
        if decoder is not None:
            manifest = replace(manifest, decoder=_export_decoder(decoder, manifest, folder))
        write_golden(folder / GOLDEN, denoiser, proof, report, decoder)
        golden = FileEntry(GOLDEN, sha256(folder / GOLDEN))
        draft = Bundle(folder, replace(manifest, golden=golden, artifacts=(artifact,)))
        results = _prove(draft, artifact, report)
        (folder / MANIFEST).write_text(_proven(draft.manifest, results, proof.is_quick).to_json(), encoding="utf-8")
        bundles.read(folder)
    return Written(results, replaced)


def check_replaceable(out: Path, source: CheckpointEntry, force: bool = False, quick: bool = False) -> str | None:
    """What an export to `out` would replace, in words; None for nothing, or a bundle of the same source made anew.

    Raises:
        BundleError: `out` is something else, or holds files that no bundle lists; without `force`, a bundle of another
        checkpoint, weights or settings, or, for a quick export, of a full proof.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not _looks_like_a_bundle(out):
        raise BundleError(f"'{out}' exists and is not a bundle: choose another -o")
    held = _held(out, source, quick)
    if held and not force:
        raise BundleError(f"'{out}' is {held}: add --force to replace it, or use another -o")
    return held


def _looks_like_a_bundle(out: Path) -> bool:
    """Whether there is a manifest of ours, be it damaged or of another version."""
    path = out / MANIFEST
    return path.is_file() and all(key in path.read_bytes() for key in (b'"schema_version"', b'"golden"'))


def _held(out: Path, source: CheckpointEntry, quick: bool) -> str | None:
    """What another bundle is of; None if it is of the same source, and proves no more.

    Raises:
        BundleError: there are files in it that would be lost.
    """
    try:
        bundle = bundles.read(out)
    except BundleError as error:
        return f"a bundle that cannot be read ({error})"
    if unlisted := bundle.unlisted():
        raise BundleError(f"'{out}' holds '{unlisted[0]}', which is not of the bundle: move it away, or use another -o")
    held = bundle.manifest.model.checkpoint
    if all(held[key] == source[key] for key in IDENTITY):  # type: ignore[literal-required]
        proofs = [artifact.parity for artifact in bundle.manifest.artifacts if artifact.parity]
        proves_more = quick and any(not proof.get("quick") for proof in proofs)
        return "a bundle of the same weights with the full proof" if proves_more else None
    settings = "".join(f", {key}={value}" for key, value in held["settings"].items())
    return f"a bundle of {held['file']} ({held['sha256'][:12]}…), {held['weights']} weights{settings}"


def _export_decoder(decoder: ImageDecoder, manifest: Manifest, folder: Path) -> DecoderEntry:
    io = (
        Tensor("z", "float32", ("N", *manifest.data.shape), "latents as the sampler leaves them"),
        Tensor("image", "float32", ("N", *decoder.shape), "RGB in about -1 to 1"),
    )
    part = Part("decoder", deployable_decoder(decoder.network), io, DECODER_BATCH, DECODER_TOLERANCE)
    return DecoderEntry(decoder.shape, (targets.load(DECODER_TARGET).export(part, folder),))


def _prove(bundle: Bundle, artifact: Artifact, report: Report) -> list[parity.Comparison]:
    with open_candidate(bundle, choose(bundle, targets.load(artifact.format).PROVER)) as opened:
        results = parity.check(bundle, opened, report)
    worst = parity.worst(results)
    if not all(result.passed for result in results):
        raise ParityError(
            f"{worst.name}: relative L2 {worst.relative_l2:.2g} from eager PyTorch, allowed {worst.tolerance:g}; "
            "no bundle was written"
        )
    return results


def _proven(manifest: Manifest, results: list[parity.Comparison], quick: bool) -> Manifest:
    """With each artifact's own results; the decoder's are the last."""
    if manifest.decoder is None:
        return replace(manifest, artifacts=_with_parity(manifest.artifacts, results, quick))
    decoder = replace(manifest.decoder, artifacts=_with_parity(manifest.decoder.artifacts, results[-1:], quick))
    return replace(manifest, artifacts=_with_parity(manifest.artifacts, results[:-1], quick), decoder=decoder)


def _with_parity(
    artifacts: tuple[Artifact, ...], results: list[parity.Comparison], quick: bool
) -> tuple[Artifact, ...]:
    return tuple(replace(artifact, parity=parity.summary(results, "ONNX Runtime", quick)) for artifact in artifacts)
