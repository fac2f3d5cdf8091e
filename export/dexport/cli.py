"""The `dexport` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from drun.console.app import ConsoleGroup, new_app, run_app
from drun.errors import ConfigError


class Targets(ConsoleGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command as typer does. Raises ConfigError, with the command to type, if the first word is not one."""
        word, *others = args
        if word in self.commands or word.startswith("-"):
            return super().resolve_command(ctx, args)
        targets = [name for name, command in self.commands.items() if takes_checkpoint(command)]
        is_checkpoint = Path(word).exists() or Path(word).suffix
        target = next((other for other in others if other in targets), targets[0])
        words = [argument for argument in (args if is_checkpoint else others) if argument not in targets]
        command = shlex.join(["dexport", target, *(words or ["CHECKPOINT"])])
        got = "no target" if is_checkpoint else f"unknown target '{word}'"
        raise ConfigError(f"{got}: type {command} (targets: {', '.join(targets)})")


def takes_checkpoint(command: Any) -> bool:
    """Whether a command exports."""
    return any(parameter.name == "checkpoint" for parameter in command.params)


app = new_app("dexport", "Turn checkpoints into verified bundles.", Targets)


@app.command()
def onnx(
    checkpoint: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT", help=".pt or .safetensors file, or the folder of a run, whose newest is taken."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Bundle (default: bundles/<stem>[-online]/).")] = None,
    batch: Annotated[
        str, typer.Option(help="Images in a call: 8 for a static graph, 1..64 for a dynamic one.")
    ] = "1..64",
    weights: Annotated[str, typer.Option(help="Weights to export: ema or online.")] = "ema",
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that the checkpoint does not state; repeatable."),
    ] = [],
    trajectory_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the bundle's sampler in the proof (default: 25; none with --quick)."),
    ] = None,
    vae: Annotated[
        str,
        typer.Option(
            metavar="auto|none|NAME_OR_DIR",
            help="VAE whose decoder the bundle gets; auto: the one that the checkpoint names, if it can be had.",
        ),
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Prove less: single images at the states of 2 steps.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a bundle of another checkpoint, of other weights or settings.")
    ] = False,
) -> None:
    """Export the denoiser to ONNX, prove that it computes what eager PyTorch computes, and write a bundle."""
    from dexport import commands

    chosen = commands.only(checkpoint, "onnx")
    commands.export("onnx", chosen, out, batch, weights, set_, trajectory_steps, vae, force, quick)


def main() -> None:
    run_app(app, extra="onnx")
