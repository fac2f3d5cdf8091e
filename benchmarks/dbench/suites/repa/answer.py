"""The comparison in a report: the answer in a sentence, the plots, images and the rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbench.core.record import Result, number
from dbench.html import page
from dbench.suites.repa import plots, rows
from dbench.suites.repa.plan import PLAIN, REPA


def answered(result: Result, pictures: Mapping[str, Path]) -> str:
    """HTML of a result of `dbench repa`. pictures: name -> file, those that are there."""
    charts = plots.draw(result)
    layers = charts.pop("layers")
    images, steps = result.settings["samples"], result.settings["sampling_steps"]
    caption = (
        f"Fréchet distance of {images} images, drawn in {steps} Euler steps with the averaged weights, to real images. "
        "Thin: each seed; thick: their median. A random teacher is the same network with random weights: what it gains "
        "is not knowledge. The training of the teacher is in no time."
    )
    blocks = (
        "How alike block and teacher find the images (CKNNA) and, where there are labels, what a linear layer reads "
        "from each block: final checkpoints, images noised to t, null label, median of the seeds."
    )
    drawn = "From the same noise at equal steps, the first seed: plain, with REPA, and with a random teacher, in turn."
    return page.section(
        "What does REPA gain?",
        page.paragraph(_answer(result)),
        *(page.figure(page.scrolled(chart.inline()), caption) for chart in charts.values()),
        *(page.figure(page.image(path, drawn), drawn) for path in pictures.values()),
        page.figure(page.scrolled(layers.inline()), blocks),
        page.results(result, f"Measured with {page.listed(result.settings)}"),
    )


def _answer(result: Result) -> str:
    kind = plots.kinds(result)[0]
    plain, repa = (number(result.row(rows.final_name(kind, arm)).value) for arm in (PLAIN, REPA))
    cost = number(result.row(rows.STEP_COST).value)
    return (
        f"{plots.verdict(result)} to the same Fréchet distance. {plots.describe(result)} At the end of training "
        f"the plain model is {plain} from real images, REPA's {repa} (medians). An aligned step takes {cost} times as "
        "long as a plain one."
    )
