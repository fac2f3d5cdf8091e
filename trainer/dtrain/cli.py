"""The `dtrain` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from drun.console.app import ConsoleGroup, new_app, run_app
from drun.errors import ConfigError


class Recipes(ConsoleGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command as typer does. Raises ConfigError, with the command to type, if the first word is a recipe."""
        from dtrain import config

        if args[0] not in self.commands and (args[0].endswith(".toml") or args[0] in config.names()):
            command = shlex.join(["dtrain", "run", *args])
            raise ConfigError(f"'{args[0]}' is not a command: to train this recipe, type {command}")
        return super().resolve_command(ctx, args)


app = new_app("dtrain", "Train diffusion models.", Recipes)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Recipe to describe (default: list all).")] = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the whole recipe, to begin your own: > mine.toml.")
    ] = False,
) -> None:
    """List the recipes, or print one."""
    from dtrain import commands

    commands.recipes(name, toml)


@app.command()
def settings() -> None:
    """List every setting of a recipe, for .toml files and --set: its default, meaning and unit."""
    from dtrain import commands

    commands.settings()


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name from 'dtrain recipes', or a .toml file.")],
    data: Annotated[str | None, typer.Option(help="Folder, .zip, .npz, idx or latents (default: recipe's).")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder (default: runs/<recipe>/).")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as train.steps=100; repeatable."),
    ] = [],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make the checks of a run, decode at most 100 images, and write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a recipe; checkpoints, previews, log.jsonl and TensorBoard events go to the output folder."""
    from dtrain import commands

    commands.run(recipe, data, out, set_, resume, dry_run, device)


@app.command()
def tiles(
    source: Annotated[Path, typer.Argument(help="Large images: a file, a folder, or .npy uint8 stacks (N,H,W,3).")],
    out: Annotated[Path, typer.Argument(help="New folder for train/, holdout/ and tiles.json.")],
    size: Annotated[int, typer.Option(min=1, help="Side of a tile, pixels.")] = 128,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")] = 0,
    holdout: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the source images kept for testing.")] = 0.1,
    min_std: Annotated[
        float, typer.Option(min=0, help="Drop tiles whose standard deviation is lower, grey levels.")
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed that chooses the hold-out.")] = 0,
) -> None:
    """Cut large images into tiles, drop blank ones, and hold out by source image."""
    from dtrain import commands

    commands.tiles(source, out, size, overlap, holdout, min_std, seed)


@app.command()
def encode(
    images: Annotated[Path, typer.Argument(help="Folder (its sub-folders are labels), .zip, .npz or idx.")],
    out: Annotated[Path, typer.Argument(help="Folder for the latents; the same command continues where it stopped.")],
    vae: Annotated[str, typer.Option(help="VAE: a folder, or a name such as stabilityai/sd-vae-ft-mse.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the cropped images, pixels.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images encoded at a time.")] = 8,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps.")] = "auto",
    flip: Annotated[
        bool, typer.Option("--flip", help="Also encode the mirror image of each image, as SiT and DiT do.")
    ] = False,
) -> None:
    """Encode images into latents for latent diffusion; accelerate launch -m dtrain encode shares the work."""
    from dtrain import commands

    commands.encode(images, out, vae, size, batch, device, flip)


@app.command()
def inspect(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint of dtrain, DiT, SiT, REPA or the aerial-imagery article.")
    ],
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that the checkpoint does not state; repeatable."),
    ] = [],
) -> None:
    """Show what a checkpoint holds, how it was recognised, and which command exports it."""
    from dtrain import commands

    commands.inspect(checkpoint, set_)


def main() -> None:
    run_app(app, extra="train")
