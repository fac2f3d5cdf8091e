"""The `dbench` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drun.console import run_app

app = typer.Typer(
    help="Measure speed, memory and quality, and report them. Add --debug to any command for a traceback.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(help="Folder for the .json and .md of the results.")]


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
    samples: Annotated[Path, typer.Argument(help="Folder that drun wrote, or its samples.npz.")],
    reference: Annotated[str, typer.Option(help="Real images to compare with: digits.")] = "digits",
    out: Out = Path("results"),
) -> None:
    """Fréchet distance of the samples to real images, beside that of real images and of noise."""
    from dbench import commands

    commands.measure("quality", out, samples=samples, reference=reference)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="HTML file to write.")],
    run: Annotated[Path, typer.Option(help="Training run: recipe.json and log.jsonl.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    samples: Annotated[Path, typer.Option(help="Folder that drun wrote: grid.png and run.json.")],
    results: Annotated[Path, typer.Option(help="Folder with latency.json and quality.json.")] = Path("results"),
    animation: Annotated[Path | None, typer.Option(metavar="FILE.webp", help="What drun --trajectory wrote.")] = None,
) -> None:
    """One self-contained HTML page: training, samples beside real images, quality, parity and speed."""
    from dbench import commands

    commands.report(out, run=run, bundle=bundle, samples=samples, results=results, animation=animation)


def main() -> None:
    run_app(app)
