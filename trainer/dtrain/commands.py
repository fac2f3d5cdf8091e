"""The commands of `dtrain` resolve what was typed, call the library and print.

`cli` imports them late, so --help is quick.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drun.console import answer, progress, put, say
from drun.errors import ConfigError, Interrupted
from drun.plain import plain
from dtrain import config
from dtrain.config import Recipe
from dtrain.config.files import sections

if TYPE_CHECKING:
    from dtrain.device import Placement


def recipes(name: str | None, toml: bool) -> None:
    if name is None:
        if toml:
            raise ConfigError("--toml prints one recipe, expected its name: see 'dtrain recipes'")
        for known in config.names():
            say(f"{known:16} {config.summary(known)}")
        answer({known: config.summary(known) for known in config.names()})
        say("\nmore about one: dtrain recipes NAME; a whole one to begin from: dtrain recipes NAME --toml > mine.toml")
    elif not toml:
        say("\n".join(config.about(name)))
        say(f"\nbegin your own from it: dtrain recipes {name} --toml > mine.toml")
        answer({"name": name, "about": config.about(name), "settings": sections(name)})
    else:
        from dtrain.settings.printed import recipe_lines

        recipe = config.load(name)
        put("\n".join(recipe_lines(recipe, config.about(name))))
        answer({"name": name, "about": config.about(name), "settings": recipe.to_dict()})


def settings() -> None:
    from dtrain.settings import listings
    from dtrain.settings.printed import list_lines

    say("\n".join(list_lines()))
    answer({"sections": listings()})


def run(
    name: str, data: str | None, out: Path | None, assignments: list[str], resume: bool, dry_run: bool, device: str
) -> None:
    recipe = config.load(name, assignments, data)
    from dtrain import device as devices
    from dtrain.data import survey
    from dtrain.train import rehearsal

    folder = out or Path("runs", recipe.name)
    placement = devices.choose(device, recipe.train.precision, recipe.train.compile)
    if _is_first():
        say("\n".join((*rehearsal.summary(recipe, folder), *placement.reasons)))
        survey.tell(recipe)
    if not dry_run:
        _train(recipe, folder, placement, resume)
        return
    tried, count = rehearsal.check(recipe, folder, placement, resume)
    if _is_first():
        condition = "" if tried == count else f", if all {count:,} images can be decoded as {tried} of them were"
        say(f"the run would start{condition}; nothing was written")
        answer({"recipe": recipe.to_dict(), "folder": folder, "images_decoded": tried, "images": count})


def _train(recipe: Recipe, folder: Path, placement: Placement, resume: bool) -> None:
    from dtrain.averages import initial_share
    from dtrain.published import suggest
    from dtrain.train.loop import train
    from dtrain.train.stop import Stopped

    try:
        with progress() as report:
            last = train(recipe, folder, placement, resume, report)
    except (Stopped, KeyboardInterrupt) as stop:
        raise _how_to_go_on(stop, folder, recipe.name) from stop
    if not _is_first():
        return
    if recipe.objective["name"] == "classify":
        say(f"{last}\nalign to it: --set objective.teachers='[\"{folder}\"]'")
    else:
        steps = recipe.train.steps
        weights = suggest.weights_of(initial_share(recipe.ema, steps), steps)
        say(f"{last}\nexport it: {suggest.export_command(last, weights=weights)}")
    say(f"watch it: tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}")
    answer({"recipe": recipe.name, "folder": folder, "checkpoint": last, "steps": recipe.train.steps})


def _how_to_go_on(stop: BaseException, folder: Path, name: str) -> BaseException:
    """The error `stop`, with the command that continues the run if there is a checkpoint."""
    from dtrain.checkpoints import ours

    newest = ours.newest(folder, name)
    if newest is None:
        return stop
    command = shlex.join(["dtrain", *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])
    what = f"{stop}" or f"interrupted: the newest checkpoint is '{newest}'"
    interrupted = Interrupted(f"{what}; go on with: {command}")
    interrupted.exit_code = stop.exit_code if isinstance(stop, Interrupted) else interrupted.exit_code
    return interrupted


def _is_first() -> bool:
    """Whether this is the first of the processes that `accelerate launch` starts with this command."""
    return os.environ.get("RANK", "0") == "0"


def tiles(source: Path, out: Path, size: int, overlap: int, holdout: float, min_std: float, seed: int) -> None:
    from dtrain.data.tiles import cut_tiles

    with progress() as report:
        summary = cut_tiles(source, out, size, overlap, holdout, min_std, seed, report)
    say(f"{summary.num_train} tiles in {out}/train, {summary.num_holdout} in {out}/holdout")
    say(
        f"from {summary.num_sources} sources; dropped {summary.num_blank} blank tiles and {summary.num_too_small} "
        f"images smaller than a tile. {summary.note}"
    )
    answer({"folder": out, **plain(summary)})


def encode(images: Path, out: Path, vae: str, size: int, batch: int, device: str, flip: bool) -> None:
    from dtrain.data.encode import encode as encode_images

    with progress() as report:
        summary = encode_images(images, out, vae, size, report, device, batch, flip)
    if summary.rank == 0:
        classes = f"{summary.num_classes} classes" if summary.num_classes else "no labels"
        shape = "x".join(map(str, summary.shape))
        twice = "each also mirrored, " if flip else ""
        say(f"{summary.num_images} images, {twice}{classes}: {shape} latents in {out}, shards: {summary.num_shards}")
        answer({"folder": out, **plain(summary)})


def inspect(checkpoint: Path, assignments: list[str]) -> None:
    from drun.commands.options import parse_assignments
    from dtrain.published import inspection

    found = inspection.inspect(checkpoint, parse_assignments(assignments))
    say("\n".join(found.lines))
    answer(found.document)
