"""The `dbench` command: parses, resolves, prints and calls the library. Its suites declare their own commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from dbench import suites
from dbench.core.options import Declared, declared, word
from drun.console.app import new_app, run_app

app = new_app("dbench", "Measure speed, memory and quality, and report them.")

Out = Annotated[Path, typer.Option(help="Folder for the results: .json, .md and plots.")]
GPU_RESULTS = Path("results/gpu")
OUT = Parameter("out", Parameter.KEYWORD_ONLY, default=Path("results"), annotation=Out)


# ---- suites ---------------------------------------------------------------------------------------------


def command_of(name: str, suite: ModuleType) -> Callable[..., None]:
    """The command of a suite, with a parameter for each field of its settings that is an option."""
    given = [of for of in fields(suite.Settings) if declared(of)]
    types = get_type_hints(suite.Settings)

    def command(out: Path, **words: Any) -> None:
        from dbench import commands

        commands.measure(name, out, **{of.name: _value(of, words[of.name]) for of in given})

    command.__doc__ = (inspect.getdoc(suite.measure) or "").partition("\n")[0]
    parameters = [_parameter(of, types[of.name]) for of in given]
    command.__signature__ = inspect.Signature([*parameters, OUT])  # type: ignore[attr-defined]
    return command


def _parameter(of: Field[Any], kind: Any) -> Parameter:
    how = declared(of)
    assert how is not None
    default: Any = Parameter.empty if of.default is MISSING else word(of)
    if how.parse:
        kind = str
    elif get_origin(kind) is tuple:
        kind, default = list[kind.__args__[0]], list(default)
    annotation = Annotated[kind, _given(of.name, how)]
    return Parameter(of.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _given(name: str, how: Declared) -> Any:
    if how.is_argument:
        return typer.Argument(help=how.help, metavar=how.metavar)
    flag = how.flag or f"--{name.replace('_', '-')}"  # stated, because typer would add a --no- flag to a switch
    return typer.Option(flag, help=how.help, metavar=how.metavar, min=how.least)


def _value(of: Field[Any], given: Any) -> Any:
    """The value of the settings for a typed value."""
    how = declared(of)
    if how is not None and how.parse:
        return how.parse(given)
    return tuple(given) if isinstance(given, list) else given


for _name in suites.names():
    app.command(_name)(command_of(_name, suites.load(_name)))


# ---- a GPU's campaign -----------------------------------------------------------------------------------


@app.command()
def gpu(
    out: Annotated[
        Path, typer.Argument(help="Folder for the results; bundles and logs lie in its folder work.")
    ] = GPU_RESULTS,
    only: Annotated[
        list[str], typer.Option(metavar="PATTERN", help="Slices to run, such as throughput-*; repeatable.")
    ] = [],
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Run them on the processor with tiny networks: the figures say nothing.")
    ] = False,
) -> None:
    """Measure all that only a GPU can tell, in slices of minutes; run again, it goes on where it ended."""
    from dbench import commands

    commands.gpu(out, tuple(only), rehearse)


@app.command()
def weights(
    recipe: Annotated[str, typer.Argument(help="Name from 'dtrain recipes', or a .toml file.")],
    out: Annotated[Path, typer.Argument(help="Folder for the checkpoint.")],
) -> None:
    """Write a checkpoint of a recipe's network with random weights: its speed is that of a trained one."""
    from dbench import commands

    commands.weights(recipe, out)


# ---- the page -------------------------------------------------------------------------------------------


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


@app.command()
def readme(
    document: Annotated[Path, typer.Argument(help="Markdown file with the two marks.")] = Path("README.md"),
    results: Annotated[Path, typer.Option(help="Folder of published results, searched recursively.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Write the tables of published results into the README, between its marks."""
    from dbench import commands

    commands.readme(document, results)


def main() -> None:
    run_app(app, extra="bench")
