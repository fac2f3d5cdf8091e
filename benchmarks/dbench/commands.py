"""The commands of `dbench` resolve what was typed, call the library and print.

`cli` imports them late: --help is quick.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from dbench import suites
from dbench.core import record
from dbench.core.record import MARK, Result
from drun.console import answer, progress, say
from drun.errors import ConfigError, ParityError, UserError
from drun.files import atomic
from drun.run.images import write_png

#: Default folder of results.
RESULTS = Path("results")
#: Folder of what a rehearsal writes, below that of the results.
REHEARSED = "rehearsal"


def measure(suite: str, out: Path, **settings: Any) -> None:
    """Run a suite, print its table and write it; if stdout is not a terminal, the last line is JSON."""
    module = suites.load(suite)
    run = module.Settings(**settings)
    with progress() as report:
        result = module.measure(run, report)
    summary = suites.summary(result)
    say(record.to_markdown(result, summary))
    # The numbers first: what fails to be drawn loses none.
    files = [*record.write(result, out, summary)]
    files += [*_write_figures(module, result, out), *_write_pictures(module, run, result, out)]
    for path in files:
        say(str(path))
    if not sys.stdout.isatty():
        say(record.to_line(result))
    answer({"files": files, **result.to_dict()})
    if hasattr(module, "failure") and (why := module.failure(result)) is not None:
        raise ParityError(why)


def _write_figures(module: ModuleType, result: Result, out: Path) -> list[Path]:
    """Write the plots of a suite that has `figures` beside its results, and return their paths."""
    if not hasattr(module, "figures"):
        return []
    charts = {out / f"{result.file_name}-{name}.svg": chart for name, chart in module.figures(result).items()}
    for path, chart in charts.items():
        with atomic(path) as temporary:
            temporary.write_text(chart.standalone(), encoding="utf-8")
    return list(charts)


def _write_pictures(module: ModuleType, settings: Any, result: Result, out: Path) -> list[Path]:
    """Write the images of a suite that has `pictures` beside its results, and return their paths."""
    if not hasattr(module, "pictures"):
        return []
    shown = module.pictures(settings, result)
    paths = {out / f"{result.file_name}-{name}.png": picture for name, picture in shown.items()}
    for path, picture in paths.items():
        write_png(path, picture)
    return list(paths)


def gpu(out: Path, only: tuple[str, ...], rehearse: bool) -> None:
    """Run the slices that have no result yet, and say what became of each."""
    from dbench.campaign import plan, running, table
    from dbench.campaign.slices import FAILED, TOO_LONG

    out = out / REHEARSED if rehearse else out  # whose results are of tiny networks
    slices = plan.chosen(plan.plan(plan.rehearsal() if rehearse else plan.on_gpu(), out), only)
    with progress() as report:
        outcomes = running.run(slices, out, report)
    say(table.shown(outcomes))
    answer({"out": out, "slices": {name: asdict(one) for name, one in outcomes.items()}})
    if failed := [name for name, one in outcomes.items() if one.status in (FAILED, TOO_LONG)]:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} slices failed, such as {failed[0]}: '{out / 'work' / 'logs'}' says why; "
            "the same command tries them again"
        )


def weights(recipe: str, out: Path) -> None:
    """Write a checkpoint with random weights, and print its path."""
    from dbench.core.random_weights import write_random
    from dtrain import config

    path = write_random(config.load(recipe), out)
    say(str(path))
    answer({"checkpoint": path})


def readme(document: Path, results: Path) -> None:
    """Write the tables of all results below a folder into a document, between its marks."""
    from dbench.report.readme import tables, with_tables

    if not document.is_file():
        raise ConfigError(f"no such document: '{document}'")
    text = with_tables(document.read_text(encoding="utf-8"), tables(results))
    with atomic(document) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(str(document))
    answer({"document": document})


def report(
    out: Path,
    *,
    bundle: Path,
    run: Path | None,
    samples: Path | None,
    results: tuple[Path, ...],
    animation: Path | None,
) -> None:
    """Write a page. Without `results` it takes the results in the default folder that belong to the bundle."""
    from dbench.report import Sources, write_report

    if not results and any(RESULTS.glob("*.json")):
        results = (RESULTS,)
    with progress() as reporter:
        figures = write_report(out, Sources(bundle, run, samples, results, animation), reporter)
    for key in figures:
        notes = (f"p10 to p90: {key.spread}" if key.spread else "", key.doubt and f"{MARK} {key.doubt}")
        say(f"{key.number:>10}  {'; '.join([key.meaning, *filter(None, notes)])}")
    say(str(out))
    answer({"page": out, "key_numbers": figures})
