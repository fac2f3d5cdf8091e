"""The comparison in a report: its answer in a sentence, then the rows."""

from __future__ import annotations

from dbench.core.record import Result, Row, number
from dbench.html import page
from dbench.suites.quality.rows import NOISE, POSITION, REAL, SAMPLES

#: How far from real to noise the samples may lie, percent of the way by Fréchet distance.
GOAL_PERCENT = 10.0


def section(result: Result) -> str:
    """HTML of a result of `dbench quality`."""
    samples, real, noise = (number(result.row(name).value) for name in (SAMPLES, REAL, NOISE))
    reference, measured_on = result.subject["reference"], result.settings["distance_on"]
    text = (
        f"By Fréchet distance on {measured_on}, {result.subject['num_samples']:,} samples are "
        f"{samples} from the {reference['num_images']:,} real images of '{reference['source']}'. As many of those are "
        f"{real} from the others, as much uniform noise {noise}. {_position(result.row(POSITION), measured_on)}"
    )
    return page.section("How real are they?", page.paragraph(text), page.results(result, "Distances and shares"))


def _position(row: Row, measured_on: str) -> str:
    if row.value is None:
        return f"Where the samples lie between real and noise is unknown: {row.doubt}."
    if row.doubt:
        return (
            f"On {measured_on} they lie {number(row.value)}\u00a0% of the way from real to noise, which tells little: "
            f"{row.doubt}."
        )
    verdict = "within" if row.value <= GOAL_PERCENT else "outside"
    return (
        f"So the samples lie {number(row.value)}\u00a0% of the way from real to noise, {verdict} the goal of at most "
        f"{GOAL_PERCENT:g}\u00a0%."
    )
