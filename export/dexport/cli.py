"""The `dexport` command: parses, resolves, prints and calls the library.

Each target is a command with the same options.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dexport import targets
from dexport.options import DEFAULTS, ExportOptions
from drun.bundle.artifact import INT8, SPLIT
from drun.bundle.reading import BUNDLES
from drun.console.app import ConsoleGroup, new_app, run_app
from drun.errors import ConfigError


class Targets(ConsoleGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command as typer does. Raises ConfigError, with the command to type, if the first word is not one."""
        word, *others = args
        if word in self.commands or word.startswith("-"):
            return super().resolve_command(ctx, args)
        known = targets.names()
        is_source = any(path.exists() for path in (Path(word), BUNDLES / word)) or Path(word).suffix
        target = next((other for other in others if other in known), "onnx")
        words = [argument for argument in (args if is_source else others) if argument not in known]
        command = shlex.join(["dexport", target, *(words or ["CHECKPOINT"])])
        got = "no target" if is_source else f"unknown target '{word}'"
        raise ConfigError(f"{got}: type {command} (targets: {', '.join(known)})")


app = new_app("dexport", "Turn checkpoints into verified bundles.", Targets)


Out = Annotated[Path | None, typer.Option("-o", "--out", help="Bundle (default: bundles/<stem>[-online]/).")]
Weights = Annotated[str, typer.Option(help="Weights to export: ema or online.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Setting that the checkpoint does not state; repeatable."),
]
TrajectorySteps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Steps of the bundle's sampler in the proof (default: 25, above 300M parameters 10; none with --quick).",
    ),
]
VaeChoice = Annotated[
    str,
    typer.Option(
        metavar="auto|none|NAME_OR_DIR",
        help="VAE whose decoder the bundle gets; auto: the one that the checkpoint names, if it can be had.",
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="Prove less: single images at the states of 2 steps.")]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a bundle that is damaged, or of something else, with all its artifacts."),
]


def _sources(target: str) -> Any:
    derived = targets.source_of(target) is not None
    return typer.Argument(
        metavar="CHECKPOINT_OR_BUNDLE" if derived else "CHECKPOINT",
        help=".pt or .safetensors file, or the folder of a run, whose newest is taken"
        + ("; or a bundle to derive from." if derived else "."),
    )


def _batch_help(target: str) -> str:
    if not targets.systems(target):
        return "Images in a call: 8 for a static graph, 1..64 for a dynamic one (default: 1..64, or as its source)."
    usual = {system: targets.usual_batch(target, system) for system in targets.systems(target)}
    stated = ", ".join(f"for iOS {system} {'..'.join(map(str, sorted({*sizes})))}" for system, sizes in usual.items())
    return f"Images in a call: 8 for calls of one size, 8..16 for two sizes (default: {stated})."


def _command_of(target: str) -> Callable[..., None]:
    precisions = "|".join(targets.precisions(target))
    is_lossless = INT8 not in targets.precisions(target)
    units, systems = targets.units(target), targets.systems(target)

    def export(
        sources: list[Path] = _sources(target),
        out: Out = DEFAULTS.out,
        precision: str | None = typer.Option(DEFAULTS.precision, metavar=precisions, help="Precision of the graph."),
        batch: str | None = typer.Option(DEFAULTS.batch, help=_batch_help(target)),
        split: bool = typer.Option(
            DEFAULTS.split,
            "--split",
            help="Two graphs: all that depends on time and label is computed once, outside the loop.",
            hidden=not any(SPLIT in targets.variants(target, one) for one in targets.precisions(target)),
        ),
        unit: str | None = typer.Option(
            DEFAULTS.unit,
            metavar="|".join(units) or None,
            help="Unit of the device that the graph is written for (default: the first).",
            hidden=not units,
        ),
        ios: int | None = typer.Option(
            DEFAULTS.ios,
            metavar="|".join(map(str, systems)) or None,
            help="Oldest iOS that reads it; the Mac's number is 3 less (default: the first).",
            hidden=not systems,
        ),
        weights: Weights = DEFAULTS.weights,
        settings: Settings = [],
        trajectory_steps: TrajectorySteps = DEFAULTS.trajectory_steps,
        vae: VaeChoice = DEFAULTS.vae,
        quick: Quick = DEFAULTS.quick,
        force: Force = DEFAULTS.force,
        allow_drift: bool = typer.Option(
            DEFAULTS.allow_drift,
            "--allow-drift",
            help="Write an int8 graph even if it fails its proof, and record that it failed.",
            hidden=is_lossless,
        ),
    ) -> None:
        from dexport import commands

        options = ExportOptions(
            out, precision, batch, split, unit, ios, weights, tuple(settings), trajectory_steps, vae, quick, force,
            allow_drift,
        )  # fmt: skip
        commands.export(target, sources, options)

    return export


for name in targets.names():
    app.command(name, help=targets.summary(name))(_command_of(name))


def main() -> None:
    run_app(app, extra="onnx")
