"""What the commands of `dexport` do: resolve, call the library, print. Apart from `cli`, so that --help is quick."""

from __future__ import annotations

from pathlib import Path

from dexport.latents import find_decoder
from dexport.writer import write_bundle
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.average import of_initial_weights
from drun.bundle.manifest import MAX_BATCH
from drun.commands import check, parity_table, parse_assignments
from drun.console import progress, say, warn
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import BackendUnavailable, ConfigError, memory_for
from dtrain import published


def export(
    target: str,
    checkpoint: Path,
    out: Path | None,
    batch: str,
    weights: str,
    settings: list[str],
    trajectory_steps: int,
    vae: str,
    force: bool = False,
) -> None:
    sizes = parse_batch(batch)
    denoiser = published.load(checkpoint, weights, parse_assignments(settings))
    for reason in denoiser.reasons:
        say(reason)
    if note := of_initial_weights(denoiser.initial_share, denoiser.step):
        warn(f"the average in '{checkpoint}' {note}")
    process, folder = denoiser.process, out or Path("bundles", checkpoint.stem)
    if isinstance(process, DiscreteProcess) and trajectory_steps > process.num_timesteps:
        raise ConfigError(f"--trajectory-steps got {trajectory_steps}, the model has {process.num_timesteps}")
    decoder = find_decoder(denoiser, vae)
    with progress() as report, memory_for("exporting", "close other programs, or export on a larger machine"):
        written = write_bundle(denoiser, checkpoint, target, folder, sizes, trajectory_steps, report, decoder, force)
    say(parity_table(written.results))
    if written.replaced:
        say(f"replaced {written.replaced}")
    guidance = " --cfg 1.5" if denoiser.classes and denoiser.classes.null_label is not None else ""
    say(f"{folder}\nsample from it: drun --backend ort --steps 250{guidance} --bundle {folder}")


def parse_batch(text: str) -> tuple[int, int]:
    """`8` -> (8, 8), `1..64` -> (1, 64).

    Raises:
        ConfigError: not a size or a range of sizes.
    """
    low, dots, high = text.partition("..")
    try:
        sizes = int(low), int(high if dots else low)
    except ValueError:
        raise ConfigError(f"--batch got '{text}', expected a size such as 8 or a range such as 1..64") from None
    if not 1 <= sizes[0] <= sizes[1] <= MAX_BATCH:
        raise ConfigError(f"--batch got '{text}', expected sizes from 1 to {MAX_BATCH:,}, the smaller one first")
    return sizes


def verify(path: Path, chosen: list[str]) -> None:
    held = {artifact.format for artifact in bundles.read(path).manifest.artifacts}
    able = [name for name in backends.names() if held & set(backends.load(name).formats)]
    for name in chosen or able:
        if not chosen and not backends.load(name).probe().available:
            say(f"{name}: skipped, {backends.load(name).probe().detail}")
            continue
        check(path, name, None, 0)
    if not chosen and not any(backends.load(name).probe().available for name in able):
        raise BackendUnavailable(f"no backend here can open '{path}': see 'drun backends'")
