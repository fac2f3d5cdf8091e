"""The `dtrain` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from drun.console import progress, run_app, say
from drun.errors import Interrupted

app = typer.Typer(
    help="Train diffusion models. Add --debug to any command for a traceback.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command()
def recipes() -> None:
    """List the recipes."""
    from dtrain import config

    for name in config.names():
        say(f"{name:16} {config.summary(name)}")


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A name from 'dtrain recipes', or a .toml file.")],
    data: Annotated[str | None, typer.Option(help="Folder, .zip, .npz, idx or latents (default: recipe's).")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder (default: runs/<recipe>/).")] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Such as train.steps=100; repeatable.")
    ] = [],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe as JSON and stop.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a recipe; checkpoints, previews, log.jsonl and TensorBoard events go to the output folder."""
    from dtrain import config

    resolved = config.load(recipe, set_, data)
    _tell(json.dumps(resolved.to_dict(), indent=2))
    if dry_run:
        return
    from dtrain import device as devices
    from dtrain.data import survey
    from dtrain.train.loop import train
    from dtrain.train.stop import Stopped

    placement = devices.choose(device, resolved.train.precision, resolved.train.compile)
    for reason in placement.reasons:
        _tell(reason)
    if _is_first():
        survey.tell(resolved)
    folder = out or Path("runs", resolved.name)
    try:
        with progress() as report:
            last = train(resolved, folder, placement, resume, report)
    except (Stopped, KeyboardInterrupt) as stop:
        raise _how_to_go_on(stop, folder, resolved.name) from stop
    if resolved.objective.get("name") == "classify":
        _tell(f"{last}\nalign to it: --set objective.teachers='[\"{folder}\"]'")
    else:
        _tell(f"{last}\nexport it: dexport onnx {last}")
    _tell(f"watch it: tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}")


def _how_to_go_on(stop: BaseException, folder: Path, name: str) -> BaseException:
    """The same end, with the command that goes on, if there is a checkpoint to go on from."""
    from dtrain.checkpoints import ours

    newest = ours.newest(folder, name)
    if newest is None:
        return stop
    command = shlex.join(["dtrain", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    said = f"{stop}" or f"interrupted: the newest checkpoint is '{newest}'"
    interrupted = Interrupted(f"{said}; go on with: {command}")
    interrupted.exit_code = stop.exit_code if isinstance(stop, Interrupted) else interrupted.exit_code
    return interrupted


def _tell(message: str) -> None:
    """Say it once, not by every process."""
    if _is_first():
        say(message)


def _is_first() -> bool:
    """Of the processes of `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


@app.command()
def tiles(
    source: Annotated[Path, typer.Argument(help="Large images: a file, a folder, or .npy uint8 stacks (N,H,W,3).")],
    out: Annotated[Path, typer.Argument(help="New folder for train/, holdout/ and tiles.json.")],
    size: Annotated[int, typer.Option(min=1, help="Side of a tile, pixels.")] = 128,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")] = 0,
    holdout: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the source images kept for testing.")] = 0.1,
    min_std: Annotated[float, typer.Option(min=0, help="Blank is a standard deviation below this, grey levels.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the hold-out choice.")] = 0,
) -> None:
    """Cut large images into tiles, drop blank ones, and hold out by source image."""
    from dtrain.data.tiles import cut_tiles

    with progress() as report:
        summary = cut_tiles(source, out, size, overlap, holdout, min_std, seed, report)
    say(f"{summary.num_train} tiles in {out}/train, {summary.num_holdout} in {out}/holdout")
    say(
        f"from {summary.num_sources} sources; dropped {summary.num_blank} blank tiles and {summary.num_too_small} "
        f"images smaller than a tile. {summary.note}"
    )


@app.command()
def encode(
    images: Annotated[Path, typer.Argument(help="Folder (its sub-folders are labels), .zip, .npz or idx.")],
    out: Annotated[Path, typer.Argument(help="Folder for the latents; the same command goes on where it stopped.")],
    vae: Annotated[str, typer.Option(help="A folder, or a name such as stabilityai/sd-vae-ft-mse.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the cropped images, pixels.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images that the VAE sees at a time.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    flip: Annotated[bool, typer.Option("--flip", help="Encode each image mirrored, too, as SiT and DiT do.")] = False,
) -> None:
    """Encode images into the latents that latent diffusion trains on; accelerate launch -m dtrain shares the work."""
    from dtrain.data.encode import encode as encode_images

    with progress() as report:
        summary = encode_images(images, out, vae, size, report, device, batch, flip)
    if summary.rank == 0:
        classes = f"{summary.num_classes} classes" if summary.num_classes else "no labels"
        shape = "x".join(map(str, summary.shape))
        twice = "each also mirrored, " if flip else ""
        say(f"{summary.num_images} images, {twice}{classes}: {shape} latents in {out}, shards: {summary.num_shards}")


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of ours, DiT, SiT, REPA or the article's U-Nets.")],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="What the checkpoint does not say; repeatable.")
    ] = [],
) -> None:
    """Say what a checkpoint holds, how it was recognised, and which command exports it."""
    from drun.commands import parse_assignments
    from dtrain.published import inspection

    for line in inspection.lines(checkpoint, parse_assignments(set_)):
        say(line)


def main() -> None:
    run_app(app)
