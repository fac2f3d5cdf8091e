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
    checkpoint: Annotated[Path | None, typer.Option(help="What it was exported from: also time eager torch.")] = None,
    backend: Annotated[list[str], typer.Option(help="Backend to time; repeatable (default: all that can run).")] = [],
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps of the loop, 1 to the model's T.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls and loops; a quarter as many cold starts.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads of all candidates; 0: one a core.")] = 0,
    out: Out = Path("results"),
) -> None:
    """Time network calls, the sampling loop and the cold start, and weigh the process."""
    from dbench import commands

    commands.measure(
        "latency", out, bundle=bundle, checkpoint=checkpoint, backends=tuple(backend), batch=batch, steps=steps,
        repeats=repeats, threads=threads,
    )  # fmt: skip


@app.command()
def quality(
    samples: Annotated[Path, typer.Argument(help="What drun wrote; or an .npz, .npy, .zip or folder of images.")],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|FILE|digits",
            help="Real images, as in data.source (default: what the model learned from).",
        ),
    ] = None,
    out: Out = Path("results"),
) -> None:
    """Fréchet distance of samples to real images, beside that of other real images and of noise; nearest neighbours."""
    from dbench import commands

    commands.measure("quality", out, samples=samples, reference=reference)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name from 'dtrain recipes', or a .toml file.")],
    batch: Annotated[int, typer.Option(min=0, help="Images a step; 0: the recipe's.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each candidate.")] = 10,
    warmup: Annotated[int, typer.Option(min=2, help="Untimed steps before them.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (the recipe's), fp32, bf16 or fp16.")] = "auto",
    compile: Annotated[str, typer.Option(help="auto (the recipe's), on or off.")] = "auto",
    teacher: Annotated[
        list[str], typer.Option(help="live, cached or none; repeatable (default: all, if the recipe has teachers).")
    ] = [],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Such as model.size=S; repeatable.")
    ] = [],
    out: Out = Path("results"),
) -> None:
    """Time the training step of a recipe on synthetic data, count its work and weigh its memory."""
    from dbench import commands

    commands.measure(
        "train", out, recipe=recipe, batch=batch, steps=steps, warmup=warmup, device=device, precision=precision,
        compile=compile, teacher=tuple(teacher), assignments=tuple(set_),
    )  # fmt: skip


@app.command()
def repa(
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run, a multiple of --every.")] = 2000,
    seeds: Annotated[str, typer.Option(help="Two runs each, plain and aligned; with commas between.")] = "0,1,2",
    every: Annotated[int, typer.Option(min=1, help="Training steps between evaluated checkpoints.")] = 250,
    samples: Annotated[int, typer.Option(min=2, help="Images drawn of each checkpoint.")] = 512,
    sampling_steps: Annotated[int, typer.Option(min=1, help="Euler steps, one network call each.")] = 25,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Of both arms, as optimizer.learning_rate=3e-4.")
    ] = [],
    repa_set: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Of the aligned arm, as objective.weight=1.0; repeatable.")
    ] = [],
    runs: Annotated[Path, typer.Option(help="Folder for the runs; the same command goes on there.")] = Path("out/repa"),
    out: Out = Path("results"),
) -> None:
    """Train digits-sit with and without representation alignment: steps to the same Fréchet distance, and plots."""
    from dbench import commands
    from dbench.suites.repa.plan import parse_seeds

    commands.measure(
        "repa", out, steps=steps, seeds=parse_seeds(seeds), every=every, samples=samples,
        sampling_steps=sampling_steps, assignments=tuple(set_), repa_assignments=tuple(repa_set), runs=runs,
    )  # fmt: skip


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="HTML file to write.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder: what the page is about.")],
    run: Annotated[Path | None, typer.Option(help="Training run: recipe.json, log.jsonl and the checkpoint.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Folder that drun wrote from the bundle.")] = None,
    results: Annotated[
        list[Path], typer.Option(help="What dbench measured, a file or a folder; repeatable (default: results/).")
    ] = [],
    animation: Annotated[Path | None, typer.Option(metavar="FILE.webp", help="What drun --trajectory wrote.")] = None,
) -> None:
    """One self-contained HTML page about a bundle: training, samples beside real images, quality, parity and speed.

    What does not belong to the bundle, by its sha256, is refused, or left out of a folder of results.
    """
    from dbench import commands

    commands.report(out, bundle=bundle, run=run, samples=samples, results=tuple(results), animation=animation)


def main() -> None:
    run_app(app, extra="bench")
