"""A bundle appears under its name only when it is complete and has passed its own proof."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dexport import targets
from dexport.deploy import deployable
from dexport.fixtures import num_calls, write_golden
from drun import backends, parity
from drun import bundle as bundles
from drun.bundle import Artifact, Bundle, Data, FileEntry, Manifest, Model, Sampler, Tensor
from drun.console import Report
from drun.errors import BundleError, ParityError
from drun.files import atomic_folder, sha256
from dtrain.published import Denoiser

GOLDEN = "golden.npz"


def write_bundle(
    denoiser: Denoiser,
    checkpoint: Path,
    target: str,
    out: Path,
    batch: tuple[int, int],
    trajectory_steps: int,
    report: Report,
) -> list[parity.Comparison]:
    """Export a denoiser to `out`, verified against eager PyTorch.

    Args:
        target: a name of `dexport.targets`.
        batch: smallest and largest batch of the graph.
        trajectory_steps: network calls of the same-noise trajectory in the proof.

    Returns:
        Every comparison made.

    Raises:
        ParityError: the target does not compute what eager PyTorch computes; nothing is left at `out`.
        BundleError: `out` is no bundle, or one of another checkpoint.
    """
    digest = sha256(checkpoint)
    check_replaceable(out, digest)
    with atomic_folder(out) as folder:
        report("tracing the graph", 0, 1)
        network = deployable(denoiser.network)
        artifact = targets.load(target).export(network, denoiser.image_shape, batch, folder)
        manifest = _manifest(denoiser, network, checkpoint, digest)
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            report("computing the reference in eager PyTorch", done, num_calls(trajectory_steps))

        write_golden(folder / GOLDEN, denoiser, manifest.sampler, trajectory_steps, count)
        golden = FileEntry(GOLDEN, sha256(folder / GOLDEN))
        draft = Bundle(folder, replace(manifest, golden=golden, artifacts=(artifact,)))
        results = _prove(draft, artifact, report)
        proven = replace(artifact, parity=parity.summary(results))
        (folder / bundles.MANIFEST).write_text(replace(draft.manifest, artifacts=(proven,)).to_json())
        bundles.read(folder)
    return results


def check_replaceable(out: Path, checkpoint_sha256: str) -> None:
    """Raises BundleError unless `out` is free, or a bundle of the same checkpoint that may be made anew."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / bundles.MANIFEST).is_file():
        raise BundleError(f"'{out}' exists and is no bundle: choose another -o")
    held = bundles.read(out).manifest.model.checkpoint
    if held["sha256"] != checkpoint_sha256:
        raise BundleError(f"'{out}' is the bundle of another checkpoint, {held['file']}: delete it, or use another -o")


def _prove(bundle: Bundle, artifact: Artifact, report: Report) -> list[parity.Comparison]:
    backend = backends.open_backend(_backend_of(artifact), bundle)
    try:
        results = parity.check(bundle, backend, artifact, report)
    finally:
        backend.close()
    worst = parity.worst(results)
    if not all(result.passed for result in results):
        raise ParityError(
            f"{worst.name}: relative L2 {worst.relative_l2:.2g} from eager PyTorch, allowed {worst.tolerance:g}; "
            "no bundle was written"
        )
    return results


def _backend_of(artifact: Artifact) -> str:
    return next(name for name in backends.names() if artifact.format in backends.load(name).formats)


def _manifest(denoiser: Denoiser, network: Any, checkpoint: Path, digest: str) -> Manifest:
    shape = ("N", *denoiser.image_shape)
    times = f"time index 0..{denoiser.process.num_timesteps - 1}"
    return Manifest(
        created_by=f"dexport {version('dexport')}",
        model=Model(
            name=denoiser.config["name"],
            config={key: value for key, value in denoiser.config.items() if key != "name"},
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            checkpoint={
                "file": checkpoint.name, "sha256": digest, "weights": denoiser.weights, "step": denoiser.step,
            },
        ),
        process=denoiser.process.to_dict(),
        prediction=denoiser.prediction,
        time={"kind": "index", "dtype": "float32"},
        data=Data("pixel", denoiser.image_shape),
        sampler=Sampler("ddpm", {"clip_x0": True}),
        io=(
            Tensor("x", "float32", shape, "noisy images"),
            Tensor("t", "float32", ("N",), times),
            Tensor("out", "float32", shape, denoiser.prediction),
        ),
        golden=FileEntry(GOLDEN, ""),
    )  # fmt: skip
