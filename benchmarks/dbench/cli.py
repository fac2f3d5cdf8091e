"""The `dbench` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drun.console.app import new_app, run_app

app = new_app("dbench", "Measure speed, memory and quality, and report them.")

Out = Annotated[Path, typer.Option(help="Folder for the results: .json, .md and plots.")]


@app.command()
def latency(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of the bundle, to time eager PyTorch, too.")
    ] = None,
    backend: Annotated[list[str], typer.Option(help="Backend to time; repeatable (default: all that can run).")] = [],
    batch: Annotated[int, typer.Option(min=1, help="Images in a call.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps of the loop, at most the model's T.")] = 50,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of timed calls and of timed loops; cold starts are a quarter as many.")
    ] = 20,
    threads: Annotated[
        int, typer.Option(min=0, help="Processor threads of every candidate; 0: one for each core.")
    ] = 0,
    out: Out = Path("results"),
) -> None:
    """Time network calls, the sampling loop and the cold start, and measure the memory of the process."""
    from dbench import commands

    commands.measure(
        "latency", out, bundle=bundle, checkpoint=checkpoint, backends=tuple(backend), batch=batch, steps=steps,
        repeats=repeats, threads=threads,
    )  # fmt: skip


@app.command()
def quality(
    samples: Annotated[
        Path, typer.Argument(help="Folder that drun wrote, or an .npz, .npy, .zip or folder of images.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|FILE|digits",
            help="Real images to compare with (default: those that the model learned from).",
        ),
    ] = None,
    out: Out = Path("results"),
) -> None:
    """Measure the Fréchet distance of samples to real images, beside that of other real images and of noise."""
    from dbench import commands

    commands.measure("quality", out, samples=samples, reference=reference)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name from 'dtrain recipes', or a .toml file.")],
    batch: Annotated[int, typer.Option(min=0, help="Images in a step; 0: as many as in the recipe.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each candidate.")] = 10,
    warmup: Annotated[int, typer.Option(min=2, help="Untimed steps before the timed ones.")] = 3,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision: auto (the recipe's), fp32, bf16 or fp16.")] = "auto",
    compile: Annotated[str, typer.Option(help="torch.compile: auto (the recipe's), on or off.")] = "auto",
    teacher: Annotated[
        list[str],
        typer.Option(help="Teachers: live, cached or none; repeatable (default: all three, if there are any)."),
    ] = [],
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as model.size=S; repeatable."),
    ] = [],
    out: Out = Path("results"),
) -> None:
    """Time the training step of a recipe on synthetic data, count its operations and measure its memory."""
    from dbench import commands

    commands.measure(
        "train", out, recipe=recipe, batch=batch, steps=steps, warmup=warmup, device=device, precision=precision,
        compile=compile, teacher=tuple(teacher), assignments=tuple(set_),
    )  # fmt: skip


@app.command()
def repa(
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run, a multiple of --every.")] = 2000,
    seeds: Annotated[
        str, typer.Option(help="Seeds, separated by commas; each has a plain and an aligned run.")
    ] = "0,1,2",
    every: Annotated[int, typer.Option(min=1, help="Training steps between evaluated checkpoints.")] = 250,
    samples: Annotated[int, typer.Option(min=2, help="Images drawn with each checkpoint.")] = 512,
    sampling_steps: Annotated[
        int, typer.Option(min=1, help="Euler steps of an image; a step is one network call.")
    ] = 25,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change both runs, such as by optimizer.learning_rate=3e-4."),
    ] = [],
    repa_set: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Change the aligned run, such as by objective.weight=1.0.")
    ] = [],
    runs: Annotated[Path, typer.Option(help="Folder for the runs; a second call continues them.")] = Path("out/repa"),
    out: Out = Path("results"),
) -> None:
    """Train digits-sit with and without representation alignment, and compare the steps to one Fréchet distance."""
    from dbench import commands
    from dbench.suites.repa.plan import parse_seeds

    commands.measure(
        "repa", out, steps=steps, seeds=parse_seeds(seeds), every=every, samples=samples,
        sampling_steps=sampling_steps, assignments=tuple(set_), repa_assignments=tuple(repa_set), runs=runs,
    )  # fmt: skip


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="HTML file to write.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder that the page describes.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the training run, with recipe.json, log.jsonl and the checkpoint.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="Folder that drun wrote from the bundle.")] = None,
    results: Annotated[
        list[Path], typer.Option(help="File or folder that dbench wrote; repeatable (default: results/).")
    ] = [],
    animation: Annotated[
        Path | None, typer.Option(metavar="FILE.webp", help="Animation that drun --trajectory wrote.")
    ] = None,
) -> None:
    """Write an HTML page about a bundle: training, samples beside real images, quality, parity and speed.

    The page is one file. What does not belong to the bundle by its sha256 is refused; in a folder of results, it is
    left out.
    """
    from dbench import commands

    commands.report(out, bundle=bundle, run=run, samples=samples, results=tuple(results), animation=animation)


def main() -> None:
    run_app(app, extra="bench")
