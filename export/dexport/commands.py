"""The commands of `dexport` resolve what was typed, call the library and print.

`cli` imports them late, so --help is quick. Only the export of a checkpoint imports PyTorch.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dexport import targets
from dexport.options import ExportOptions
from dexport.proof import NUM_STEPS, QUICK_PROOF, Proof, full_proof, usual_steps
from dexport.writer.add import add_artifact, command_from_checkpoint
from dexport.writer.staging import Order, Written
from drun.bundle.artifact import INT8, MAX_BATCH
from drun.bundle.average import of_initial_weights
from drun.bundle.manifest import MANIFEST
from drun.bundle.reading import BUNDLES, read
from drun.commands.check import parity_table
from drun.commands.info import loss_text
from drun.commands.options import parse_assignments
from drun.commands.suggest import sample_command, warn_of_drift
from drun.console import answer, progress, say, warn
from drun.errors import ConfigError, memory_for

if TYPE_CHECKING:
    from dtrain.published import Denoiser

MEMORY_ADVICE = "close other programs, or export on a larger machine"


def export(target: str, sources: Sequence[Path], options: ExportOptions) -> None:
    """Export a checkpoint, or derive an artifact from a bundle.

    Raises:
        ConfigError: several sources, or options that do not fit. And as `create_bundle` and `add_artifact`.
    """
    source = sources[-1]
    if len(sources) > 1:
        command = shlex.join(["dexport", target, str(source)])
        raise ConfigError(f"got {len(sources)} sources, expected one, such as the last: {command}")
    bundle = bundle_at(source)
    written = _of_bundle(target, bundle, options) if bundle else _of_checkpoint(target, source, options)
    bundle_path, made = written[-1].bundle.path, written[-1].artifact
    card, prover = written[-1].bundle.manifest.card, targets.prover(target, made.precision)
    command = sample_command(card, bundle_path, prover, made.precision, made.id if made.variant else None)
    say(f"{bundle_path}\nsample from it: {command}")
    answer({"bundle": bundle_path, "exports": [_document(one) for one in written], "sample": command})


def bundle_at(path: Path) -> Path | None:
    """The bundle at `path` or, if nothing is there, of that name under bundles/; None if it is something else."""
    found = path if path.exists() else BUNDLES / path
    return found if (found / MANIFEST).is_file() else None


# ---- of a bundle ----------------------------------------------------------------------------------------


def _of_bundle(target: str, bundle: Path, options: ExportOptions) -> list[Written]:
    if targets.source_of(target) is None:
        command = command_from_checkpoint(read(bundle), target)
        raise ConfigError(f"'{bundle}' is a bundle, and {target} is made of the network itself: type {command}")
    if given := options.of_checkpoints():
        names = ", ".join(given)
        raise ConfigError(f"{names}: only for the export of a checkpoint, '{bundle}' is a bundle: leave it out")
    return [_derive(_order(target, options), bundle)]


def _order(target: str, options: ExportOptions) -> Order:
    precision = targets.chosen_precision(target, options.precision)
    variant = targets.chosen_variant(target, precision, options.split, options.unit)
    system = targets.chosen_system(target, options.ios)
    if options.allow_drift and precision != INT8:
        raise ConfigError(f"--allow-drift is for int8 alone, this graph is in {precision}: leave it out")
    batch = parse_batch(options.batch)
    targets.check(target, precision, system, batch)
    return Order(target, precision, batch, variant, system, options.allow_drift)


def _derive(order: Order, bundle: Path) -> Written:
    with progress() as report, memory_for("exporting", MEMORY_ADVICE):
        written = add_artifact(bundle, order, report)
    _say_written(written)
    return written


# ---- of a checkpoint ------------------------------------------------------------------------------------


def _of_checkpoint(target: str, source: Path, options: ExportOptions) -> list[Written]:
    """Export a checkpoint. If a target is made of another artifact, that artifact is exported first."""
    order, needed = _order(target, options), targets.source_of(target)
    if needed is None:
        return [_create(order, source, options)]
    first = _create(
        replace(order, target=needed, precision=targets.source_precision(target, order.precision)), source, options
    )
    return [first, _derive(order, first.bundle.path)]


def _create(order: Order, source: Path, options: ExportOptions) -> Written:
    from dexport.latents import find_decoder
    from dexport.writer.create import Trained, create_bundle
    from dtrain import published
    from dtrain.checkpoints import ours
    from dtrain.published import suggest

    if (checkpoint := ours.located(source)) != source:
        say(f"'{checkpoint}' is the newest checkpoint in '{source}'")
    denoiser = published.load(checkpoint, options.weights, parse_assignments([*options.settings]))
    for reason in denoiser.reasons:
        say(reason)
    if note := of_initial_weights(denoiser.initial_share, denoiser.step):
        warn(f"the average in '{checkpoint}' {note}")
    folder = options.out or suggest.bundle_of(checkpoint, options.weights)
    proof = _proof(denoiser, options)
    trained = Trained(denoiser, checkpoint, find_decoder(denoiser, options.vae))
    with progress() as report, memory_for("exporting", MEMORY_ADVICE):
        written = create_bundle(trained, order, folder, proof, report, options.force, is_last=True)
    _say_written(written)
    if options.quick and not written.is_quick:
        say("the bundle keeps its full proof, which --quick does not weaken")
    return written


def _proof(denoiser: Denoiser, options: ExportOptions) -> Proof:
    usual, process = usual_steps(denoiser.num_parameters), denoiser.card.process
    proof = QUICK_PROOF if options.quick else full_proof(usual)
    if (asked := options.trajectory_steps) is not None:
        if (most := process.most_steps(asked)) < asked:
            raise ConfigError(f"--trajectory-steps got {asked}, the model has {most}")
        return replace(proof, num_steps=asked)
    if proof.num_steps == usual < NUM_STEPS:
        size = f"{denoiser.num_parameters / 1e6:,.0f}M parameters"
        say(f"the proof has {usual} steps of the sampler, because the network has {size}: see --trajectory-steps")
    return replace(proof, num_steps=process.most_steps(proof.num_steps))


def parse_batch(text: str | None) -> tuple[int, int] | None:
    """`8` -> (8, 8), `1..64` -> (1, 64), None as it is.

    Raises:
        ConfigError: not a size or a range of sizes.
    """
    if text is None:
        return None
    low, dots, high = text.partition("..")
    try:
        sizes = int(low), int(high if dots else low)
    except ValueError:
        raise ConfigError(f"--batch got '{text}', expected a size such as 8 or a range such as 1..64") from None
    if not 1 <= sizes[0] <= sizes[1] <= MAX_BATCH:
        raise ConfigError(f"--batch got '{text}', expected sizes from 1 to {MAX_BATCH:,}, the smaller one first")
    return sizes


# ---- what was done --------------------------------------------------------------------------------------


def _say_written(written: Written) -> None:
    if written.results:
        say(parity_table([*written.results]))
    if written.remark:
        say(written.remark)
    for line in changes(written):
        say(line)
    if (parity := written.artifact.parity) and "loss" in parity:
        say(loss_text(parity["loss"]))
    warn_of_drift(written.bundle, written.artifact)
    for artifact, why in written.unproven.items():
        warn(f"{artifact} is not proven here ({why}): run drun check where it can be")
    if written.is_quick and written.results:
        say(f"a quick proof, of {len(written.results)} checks: export again without --quick before you rely on it")


def _document(written: Written) -> dict[str, Any]:
    """The JSON of one artifact."""
    return {
        "artifact": written.made,
        "replaced_bundle": written.replaced,
        "kept": kept(written),
        "dropped": written.dropped,
        "unproven": written.unproven,
        "quick": written.is_quick,
        "loss": written.artifact.parity and written.artifact.parity.get("loss"),
        "checks": [asdict(result) | {"passed": result.passed} for result in written.results],
    }


def kept(written: Written) -> list[str]:
    """The other artifacts that the bundle held and still holds."""
    return [name for name in written.held if name not in (written.made, *written.dropped)]


def changes(written: Written) -> list[str]:
    """What an export did to the bundle that was there."""
    lines = [f"replaced {written.replaced}"] if written.replaced else []
    lines.append(f"{'replaced' if written.made in written.held else 'added'} {written.made}")
    if others := kept(written):
        again = ", proven again with a new golden file" if written.has_new_golden else ""
        lines.append(f"kept {', '.join(others)}{again}")
    if written.dropped:
        names = ", ".join(written.dropped)
        lines.append(f"dropped {names}, derived from what {written.made} was before: derive it again")
    return lines
