"""The comparison in a report: its answer in a sentence, then the rows."""

from __future__ import annotations

from dbench.core.record import Result, number
from dbench.html import page
from dbench.suites.quality.rows import HALVES, NOISE, POSITION, SAMPLES

#: How far from real to noise the samples may lie, percent of the way by Fréchet distance.
GOAL_PERCENT = 10.0


def section(result: Result) -> str:
    """HTML of a result of `dbench quality`."""
    samples, halves, noise = (number(result.row(name).value) for name in (SAMPLES, HALVES, NOISE))
    text = (
        f"By Fréchet distance on raw 8x8 pixels, {result.subject['num_samples']:,} samples are {samples} "
        f"from the {result.subject['num_real']:,} real digits. One half of the real digits is {halves} "
        f"from the other, uniform noise {noise} from all. {_position(result.row(POSITION).value)}"
    )
    return page.section("How real are they?", page.paragraph(text), page.results(result, "Distances and shares"))


def _position(percent: float | None) -> str:
    if percent is None:
        return "Where the samples lie between real and noise is unknown."
    verdict = "within" if percent <= GOAL_PERCENT else "outside"
    return (
        f"So the samples lie {number(percent)}\u00a0% of the way from real to noise, {verdict} the goal of at most "
        f"{GOAL_PERCENT:g}\u00a0%."
    )
