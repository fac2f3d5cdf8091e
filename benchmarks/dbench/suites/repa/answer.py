"""The comparison in a report: the answer in a sentence, the plots, and the rows."""

from __future__ import annotations

from dbench.core.record import Result, number
from dbench.html import page
from dbench.suites.repa import plots, rows
from dbench.suites.repa.plan import PLAIN, REPA


def answered(result: Result) -> str:
    """HTML of a result of `dbench repa`."""
    charts = plots.draw(result)
    images, steps = result.settings["samples"], result.settings["sampling_steps"]
    distances = (
        f"Fréchet distance of {images} images, drawn in {steps} Euler steps with the averaged weights, to the real "
        "digits on raw 8x8 pixels. Thin: each seed; thick: their median."
    )
    blocks = (
        "What a linear layer reads from each block about the digit, and how alike block and teacher find the images "
        "(CKNNA): final checkpoints, images noised to t, null label, median of the seeds. The teacher was trained "
        "with the labels of all the digits, so a high accuracy of what was aligned to it is in part its own."
    )
    return page.section(
        "What does REPA gain?",
        page.paragraph(_answer(result)),
        page.figure(page.scrolled(charts["distances"].inline()), distances),
        page.figure(page.scrolled(charts["layers"].inline()), blocks),
        page.results(result, f"Measured with {page.listed(result.settings)}"),
    )


def _answer(result: Result) -> str:
    plain, repa = (number(result.row(rows.final_name(arm)).value) for arm in (PLAIN, REPA))
    return (
        f"{plots.verdict(result)} to the same Fréchet distance. {plots.describe(result)} At the end of training "
        f"the plain model is {plain} from the real digits, REPA's {repa} (medians). These are steps, not seconds."
    )
