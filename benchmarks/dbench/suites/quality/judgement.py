"""The comparison in a report: its answer in a sentence, then the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dbench.core import captions, record
from dbench.core.record import Result, number
from dbench.html import page
from dbench.suites.quality.rows import NEARER, NOISE, POSITION, REAL, SAMPLES

#: Name of the picture
NEIGHBOURS = "neighbours"
#: Samples should lie at most this far on the way from real images to noise, percent by Fréchet distance.
GOAL_PERCENT = 10.0


def judged(result: Result, pictures: Mapping[str, Path] = MappingProxyType({})) -> str:
    """HTML of a result of `dbench quality`, with its picture if that is there."""
    reference = result.subject["reference"]
    heading = "How real are they?" if reference.get("learned") else f"Compared with '{reference['source']}'"
    shown = [_neighbours(result, pictures[NEIGHBOURS])] if NEIGHBOURS in pictures else []
    text = f"{_which(result.subject)} {_distances(result)} {_position(result)}"
    return page.section(heading, page.paragraph(text), page.results(result, "Distances and shares"), *shown)


def _which(subject: Mapping[str, Any]) -> str:
    """The samples in words."""
    run = subject["run"]
    how = captions.drawn(run, captions.named(run["weights"])) if run else "nothing says how they were drawn"
    return f"{subject['num_samples']:,} samples of '{subject['name']}' are judged: {how}."


def _distances(result: Result) -> str:
    samples, real, noise = (number(result.row(name).value) for name in (SAMPLES, REAL, NOISE))
    reference = result.subject["reference"]
    kind = "training" if reference.get("learned") else "real"
    return (
        f"By Fréchet distance on {result.settings['distance_on']} they are {samples} from the "
        f"{reference['num_images']:,} {kind} images of '{reference['source']}'. As many of those are {real} from the "
        f"others, as much uniform noise {noise}."
    )


def _neighbours(result: Result, picture: Path) -> str:
    (_, nearest), *_ = result.row(NEARER).details["nearest"]
    caption = (
        "Left: a sample, the nearest to a real image in the first row and the farthest in the last; right: its "
        f"{len(nearest)} nearest real images."
    )
    return page.figure(page.image(picture, f"Samples beside real images. {caption}"), caption)


def _position(result: Result) -> str:
    row = result.row(POSITION)
    if row.value is None:
        return f"Where the samples lie between real and noise is unknown: {row.doubt}."
    lie = f"they lie {number(row.value)}\u00a0% of the way from real to noise"
    if row.doubt:
        return f"On {result.settings['distance_on']} {lie}, which tells little: {row.doubt}."
    verdict = "within" if row.value <= GOAL_PERCENT else "outside"
    return f"So {lie}, {verdict} the goal of at most {GOAL_PERCENT:g}\u00a0%."


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: a line for each result. results: with names."""
    lines = []
    for name, result in results:
        way, real = result.row(POSITION), result.row(REAL)
        spread = "" if way.p10 is None or way.p90 is None else f" ({number(way.p10)} to {number(way.p90)})"
        distances = f"{number(result.row(SAMPLES).value)}, {number(real.value)}"
        lines.append([f"`{name}`", f"{record.shown(way, result.machine)} %{spread}", distances, real.unit])
    head = (
        "samples",
        "on the way from real images to noise",
        "Fréchet distance: of samples, of other real images",
        "unit",
    )
    text = "`dbench quality`: how far samples lie on the way from real images to noise; in brackets p10 to p90:"
    return f"{text}\n\n{record.table(head, lines, texts=(0, 3))}"
