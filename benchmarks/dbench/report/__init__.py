"""One HTML page about one model: trained, sampled, compared with real images, proven and timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dbench import suites
from dbench.core import record
from dbench.core.inputs import able_backends
from dbench.core.record import Result, Row, number, shown_command
from dbench.html import chart, page
from dbench.suites import quality
from dbench.suites.repa import rows as repa
from dbench.suites.repa.section import section as repa_section
from drun import backends
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.errors import DataError, UserError, door
from drun.files import atomic
from drun.foreign import parse_json, read_json
from drun.run import images, parity
from drun.run.assembly import GRID_IMAGES
from drun.run.images import UInt8

#: How far from real to noise the samples may lie, percent of the way by Fréchet distance.
GOAL_PERCENT = 10.0
SEED = 0


@dataclass(frozen=True)
class Sources:
    """What the page is made from."""

    run: Path                # of dtrain: recipe.json and log.jsonl
    bundle: Path
    samples: Path            # of drun: grid.png and run.json
    results: Path            # of dbench: <suite>.json
    animation: Path | None = None


def write_report(out: Path, sources: Sources, report: Report) -> list[tuple[str, str]]:
    """Write one self-contained HTML file; parity is proven anew.

    Returns:
        The page's key figures: (number with its unit, what it is).

    Raises:
        DataError: a file is missing. UserError: one is not what it should be.
    """
    recipe, sampled = read_object(sources.run / "recipe.json"), read_object(sources.samples / "run.json")
    bundle, results = bundles.read(sources.bundle), read_results(sources.results)
    proofs = prove(bundle, report)
    figures = [*_key_rows(results), *_key_proofs(proofs)]
    with door("the report's sources are not what dtrain, drun and dbench write", passing=UserError):
        markup = _document(sources, recipe, sampled, bundle, results, proofs, figures)
    with atomic(out) as temporary:
        temporary.write_text(markup, encoding="utf-8")
    return figures


def _document(
    sources: Sources,
    recipe: dict[str, Any],
    sampled: dict[str, Any],
    bundle: Bundle,
    results: list[Result],
    proofs: dict[str, list[parity.Comparison]],
    figures: list[tuple[str, str]],
) -> str:
    title = f"{recipe['name']}: from training to {_formats(bundle)}, measured"
    parts = [
        page.header(
            title,
            page.paragraph(_lead(bundle, recipe, sampled), "lead"),
            page.key_numbers(figures),
        ),
        _training(sources.run, recipe),
        _samples(sources, recipe, sampled),
        *(_quality(result) for result in results if result.suite == quality.SUITE),
        _parity(proofs),
        *(_measured(result) for result in results if result.suite != quality.SUITE),
        _conditions(bundle, results, sampled),
    ]
    return page.document(title, "\n".join(parts))


# ---- reading --------------------------------------------------------------------------------------------


def read_object(path: Path) -> dict[str, Any]:
    """Raises DataError if there is no such file."""
    return read_json(_present(path))


def read_results(folder: Path) -> list[Result]:
    """The results of every suite that left some.

    Raises:
        DataError: there are none.
    """
    paths = [folder / f"{suite}.json" for suite in suites.names()]
    results = [record.read(path) for path in paths if path.is_file()]
    if not results:
        wanted = " or ".join(f"'dbench {suite}'" for suite in suites.names())
        raise DataError(f"no results in '{folder}': measure with {wanted} first")
    return results


def read_losses(path: Path) -> tuple[list[int], list[float]]:
    """Steps and losses of a training log.

    Raises:
        DataError: it is missing, empty or broken.
    """
    with door(f"'{path}' is not a training log", advice="give the folder of 'dtrain run'"):
        lines = [parse_json(line) for line in _present(path).read_bytes().splitlines()]
        steps, losses = [int(line["step"]) for line in lines], [float(line["loss"]) for line in lines]
    if not steps or not (np.isfinite(losses).all() and min(losses) > 0):
        raise DataError(f"'{path}' holds no losses that can be drawn: expected finite ones above 0")
    return steps, losses


def read_real(recipe: dict[str, Any], count: int) -> UInt8:
    """A fixed random choice of the images that a recipe trains on: (count, H, W, C) uint8."""
    from dtrain.data.pixels import load_images

    size, channels = int(recipe["data"]["image_size"]), int(recipe["model"].get("channels", 3))
    real = load_images(recipe["data"]["source"], size, channels)
    chosen = np.random.default_rng(SEED).permutation(len(real))[:count]
    return real[np.sort(chosen)]


def prove(bundle: Bundle, report: Report) -> dict[str, list[parity.Comparison]]:
    """Run the golden file on every backend that can open the bundle here: what it runs on -> comparisons."""
    proofs = {}
    for name in able_backends(bundle):
        with closing(backends.open_backend(name, bundle)) as backend:
            artifact = bundle.artifact(backend.formats)
            proofs[f"{backend.describe()}, {artifact.precision}"] = parity.check(bundle, backend, artifact, report)
    return proofs


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"the report needs '{path}', which is missing: see 'dbench report --help' for what makes it")
    return path


# ---- the head -------------------------------------------------------------------------------------------


def _formats(bundle: Bundle) -> str:
    return ", ".join(sorted({artifact.format.upper() for artifact in bundle.manifest.artifacts}))


def _lead(bundle: Bundle, recipe: dict[str, Any], sampled: dict[str, Any]) -> str:
    model, (channels, height, width) = bundle.manifest.model, bundle.manifest.data.shape
    settings = sampled["settings"]
    return (
        f"A {model.name} of {model.parameters:,} parameters, trained on {Path(recipe['data']['source']).name} "
        f"({height}x{width} pixels, {'grey' if channels == 1 else 'colour'}) for {model.checkpoint['step']:,} steps of "
        f"{recipe['train']['batch_size']} images in PyTorch, exported, and sampled without PyTorch: "
        f"{sampled['num_images']:,} images in {settings['num_steps']} {settings['sampler']} steps on "
        f"{settings['backend']}."
    )


def _key_rows(results: Sequence[Result]) -> list[tuple[str, str]]:
    return [(_with_unit(row), row.headline) for result in results for row in result.rows if row.headline]


def _with_unit(row: Row) -> str:
    return f"{number(row.value)}×" if row.unit == "x" else f"{number(row.value)} {row.unit}"


def _key_proofs(proofs: dict[str, list[parity.Comparison]]) -> list[tuple[str, str]]:
    checks = [check for comparisons in proofs.values() for check in comparisons]
    passed, worst = sum(check.passed for check in checks), parity.worst(checks).relative_l2
    return [(f"{passed} of {len(checks)}", f"parity checks passed, relative L2 at most {worst:.1e}")]


# ---- sections -------------------------------------------------------------------------------------------


def _training(run: Path, recipe: dict[str, Any]) -> str:
    steps, losses = read_losses(run / "log.jsonl")
    smooth = chart.running_median(losses)
    text = f"The loss falls from {number(losses[0])} to {number(smooth[-1])} in {steps[-1]:,} steps."
    svg = chart.loss_curve(steps, losses, f"Loss curve. {text}")
    every = recipe["train"]["log_every"]
    caption = f"{text} Thin: the mean of each {every} steps; thick: running median of {chart.WINDOW} of them."
    return page.section("Training", page.figure(svg, caption))


def _samples(sources: Sources, recipe: dict[str, Any], sampled: dict[str, Any]) -> str:
    settings = sampled["settings"]
    count = min(int(sampled["num_images"]), GRID_IMAGES)
    real = read_real(recipe, count)
    drawn = f"{count} samples of seed {settings['seed']}, {settings['num_steps']} {settings['sampler']} steps"
    pair = page.side_by_side(
        page.figure(page.image(_present(sources.samples / "grid.png"), f"Grid of {drawn}"), f"Drawn: {drawn}."),
        page.figure(
            page.image(images.grid(real), f"Grid of {len(real)} real training images"),
            f"Real: {len(real)} training images, chosen at random.",
        ),
    )
    moving = []
    if sources.animation is not None:
        film = page.image(_present(sources.animation), "Animation of samples forming from noise")
        moving = [page.subheading("From noise to image"), page.figure(film, "The sampler's state, step by step.")]
    return page.section("Samples beside real images", pair, *moving)


def _quality(result: Result) -> str:
    samples, halves, noise = (result.row(name) for name in (quality.SAMPLES, quality.HALVES, quality.NOISE))
    text = (
        f"By Fréchet distance on raw 8x8 pixels, {result.subject['num_samples']:,} samples are {number(samples.value)} "
        f"from the {result.subject['num_real']:,} real digits. One half of the real digits is {number(halves.value)} "
        f"from the other, uniform noise {number(noise.value)} from all. {_position(result.row(quality.POSITION).value)}"
    )
    return page.section("How real are they?", page.paragraph(text), page.results(result.rows, "Distances and shares"))


def _position(percent: float | None) -> str:
    if percent is None:
        return "Where the samples lie between real and noise is unknown."
    verdict = "within" if percent <= GOAL_PERCENT else "outside"
    return (
        f"So the samples lie {number(percent)}\u00a0% of the way from real to noise, {verdict} the goal of at most "
        f"{GOAL_PERCENT:g}\u00a0%."
    )


def _parity(proofs: dict[str, list[parity.Comparison]]) -> str:
    text = (
        "The bundle carries inputs and the outputs of eager PyTorch in float32. For this page each was computed again; "
        "a check passes if its relative L2 error is at most the allowed one."
    )
    head = ("check", "relative L2", "allowed", "max abs", "p99 abs", "mean abs", "PSNR dB", "passed")
    tables = [page.table(head, map(_comparison, checks), runtime) for runtime, checks in proofs.items()]
    return page.section("Parity with eager PyTorch", page.paragraph(text), *tables)


def _comparison(check: parity.Comparison) -> list[str]:
    errors = (check.relative_l2, check.tolerance, check.max_abs, check.p99_abs, check.mean_abs)
    return [check.name, *(f"{error:.1e}" for error in errors), f"{check.psnr_db:.1f}", "yes" if check.passed else "NO"]


def _measured(result: Result) -> str:
    if result.suite == repa.SUITE:
        return repa_section(result)
    table = page.results(result.rows, f"Measured with {page.listed(result.settings)}")
    return page.section(result.suite.capitalize(), table)


def _conditions(bundle: Bundle, results: Sequence[Result], sampled: dict[str, Any]) -> str:
    model = bundle.manifest.model
    made = {
        "checkpoint": f"{model.checkpoint['file']}, sha256 {model.checkpoint['sha256']}",
        "bundle": f"{bundle.name}, made by {bundle.manifest.created_by}",
        "sampled by": shown_command(sampled.get("command", [])),
        "sampled on": ", ".join([sampled["machine"], *(f"{k} {v}" for k, v in sampled["versions"].items())]),
    }
    parts = [page.facts(made)]
    for result in results:
        parts.append(page.subheading(f"dbench {result.suite}"))
        parts.append(page.facts(record.conditions(result.machine) | {"command": result.command}))
    return page.section("Conditions", *parts)
