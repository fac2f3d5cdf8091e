"""What the commands of `dexport` do: resolve, call the library, print. Apart from `cli`, so that --help is quick."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dexport.fixtures import QUICK_PROOF, Proof, full_proof
from dexport.latents import find_decoder
from dexport.writer import write_bundle
from drun.bundle.artifact import MAX_BATCH
from drun.bundle.average import of_initial_weights
from drun.commands.check import parity_table
from drun.commands.options import parse_assignments
from drun.console import progress, say, warn
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.errors import ConfigError, memory_for
from dtrain import published
from dtrain.checkpoints import ours
from dtrain.published import suggest


def export(
    target: str,
    checkpoint: Path,
    out: Path | None,
    batch: str,
    weights: str,
    settings: list[str],
    trajectory_steps: int | None,
    vae: str,
    force: bool = False,
    quick: bool = False,
) -> None:
    sizes = parse_batch(batch)
    denoiser = published.load(checkpoint, weights, parse_assignments(settings))
    for reason in denoiser.reasons:
        say(reason)
    if note := of_initial_weights(denoiser.initial_share, denoiser.step):
        warn(f"the average in '{checkpoint}' {note}")
    folder = out or suggest.bundle_of(checkpoint, weights)
    proof = _proof(denoiser.card.process, trajectory_steps, quick)
    decoder = find_decoder(denoiser, vae)
    with progress() as report, memory_for("exporting", "close other programs, or export on a larger machine"):
        written = write_bundle(denoiser, checkpoint, target, folder, sizes, proof, report, decoder, force)
    say(parity_table(written.results))
    if written.replaced:
        say(f"replaced {written.replaced}")
    if quick:
        say(f"a quick proof, of {len(written.results)} checks: export again without --quick before you rely on it")
    say(f"{folder}\nsample from it: {suggest.sample_command(denoiser, folder)}")


def only(checkpoints: Sequence[Path], target: str) -> Path:
    """The checkpoint that was named; the newest of a folder, which is said.

    Raises:
        ConfigError: several were named. CheckpointError: a folder without checkpoints, or with those of several runs.
    """
    named = checkpoints[-1]
    if len(checkpoints) > 1:
        command = shlex.join(["dexport", target, str(named)])
        raise ConfigError(f"got {len(checkpoints)} checkpoints, expected one, such as the last: {command}")
    if (found := ours.located(named)) != named:
        say(f"'{found}' is the newest checkpoint in '{named}'")
    return found


def _proof(process: Process, trajectory_steps: int | None, quick: bool) -> Proof:
    proof = QUICK_PROOF if quick else full_proof()
    if trajectory_steps is not None:
        proof = replace(proof, num_steps=trajectory_steps)
    if isinstance(process, DiscreteProcess) and proof.num_steps > process.num_timesteps:
        raise ConfigError(f"--trajectory-steps got {proof.num_steps}, the model has {process.num_timesteps}")
    return proof


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
