"""Draws the plots of the comparison from its result alone, so that its JSON is enough to draw them again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbench.core import timing
from dbench.core.record import Result, number
from dbench.core.timing import Spread
from dbench.html.chart import Axis, Chart, Line, Panel, enclosing_ticks, linear_ticks, log_ticks, path, text
from dbench.suites.repa import rows
from dbench.suites.repa.crossing import Curve, median_curve, speedup
from dbench.suites.repa.plan import DEPTHS, LABELS, PLAIN, REPA

LINE_LABELS = {PLAIN: "plain SiT", REPA: "with REPA"}
#: CSS classes of the lines of DEPTHS.
DASHES = ("", " dashed")
#: The shortest line that is labelled with its factor; the title states the factor, too.
LABEL_WIDTH = 70


def draw(result: Result) -> dict[str, Chart]:
    """Name -> chart."""
    return {"distances": distances(result), "layers": layers(result)}


def describe(result: Result) -> str:
    """The conditions of the headline."""
    each = result.row(rows.SPEEDUP).details["per_seed"]
    gains, reached = factors(result), sum(gain["reached"] for gain in each)
    seeds = f"Median of {len(each)} seeds, p10 to p90 {number(gains.p10)} to {number(gains.p90)}"
    return (
        f"{seeds if len(each) > 1 else 'One seed'}. "
        f"REPA reaches the plain model's final distance in {reached} of {len(each)}."
    )


def verdict(result: Result) -> str:
    """The headline in words."""
    factor = number(factors(result).median)
    if factor == number(1):
        return "As many steps with REPA"
    return f"{factor}× {'fewer' if float(result.row(rows.SPEEDUP).value or 0) >= 1 else 'more'} steps with REPA"


def factors(result: Result) -> Spread:
    """How many times fewer steps REPA needs over the seeds or, if `verdict` says so, how many times more."""
    row = result.row(rows.SPEEDUP)
    ratios = [float(gain["ratio"]) for gain in row.details["per_seed"]]
    return timing.spread(ratios if float(row.value or 0) >= 1 else [1 / ratio for ratio in ratios])


# ---- distance over steps --------------------------------------------------------------------------------


def distances(result: Result) -> Chart:
    """Fréchet distance over training steps: every seed thin, their median thick, and what REPA gains."""
    curves = {arm: read_curves(result, arm) for arm in LABELS}
    halves, last = float(result.row(rows.HALVES).value or 0), curves[PLAIN][0].steps[-1]
    seen = [value for each in curves.values() for curve in each for value in curve.distances]
    ticks = log_ticks(min(*seen, halves), max(seen))
    panel = Panel(
        98,
        650,
        66,
        386,
        Axis("training step", 0, last, linear_ticks(last)),
        Axis("Fréchet distance to real digits", ticks[0], ticks[-1], ticks, log=True),
    )
    medians = {arm: median_curve(each) for arm, each in curves.items()}
    title, note = verdict(result), describe(result)
    markup = [
        text((16, 26), f"{title} to the same distance", "start", "title"),
        text((16, 46), note, "start"),
        panel.axes(),
        _level(panel, halves, "two halves of the real digits"),
        panel.lines([Line(_points(curve), f"{arm} thin") for arm in LABELS for curve in curves[arm]]),
        panel.lines([Line(_points(curve), arm, LINE_LABELS[arm]) for arm, curve in medians.items()]),
        _gain(panel, medians, f"{number(factors(result).median)}×"),
    ]
    return Chart(750, 452, f"Fréchet distance over training steps. {title}. {note}", "".join(markup))


def read_curves(result: Result, arm: str) -> list[Curve]:
    """The curves of all seeds of an arm."""
    details = result.row(rows.final_name(arm)).details
    return [Curve(tuple(details["steps"]), tuple(values)) for values in details["distances"]]


def _points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.steps, curve.distances, strict=True))


def _gain(panel: Panel, medians: dict[str, Curve], words: str) -> str:
    """The steps between the medians at the level where they are compared."""
    gain = speedup(medians[PLAIN], medians[REPA])
    (left, y), (right, _) = sorted(panel.place((steps, gain.target)) for steps in (gain.plain_steps, gain.repa_steps))
    ends = "".join(path([(x, y - 5), (x, y + 5)], "gain") for x in (left, right))
    # There is room above the left end, because the upper curve falls to the right.
    label = text((left + 10, y - 8), words, "start", "gain") if right - left > LABEL_WIDTH else ""
    return path([(left, y), (right, y)], "gain") + ends + label


def _level(panel: Panel, value: float, words: str) -> str:
    """A reference across the panel, named above its left end, where falling curves leave room."""
    line = [panel.place((x, value)) for x in (panel.x.low, panel.x.high)]
    return path(line, "level") + text((line[0][0] + 8, line[0][1] - 6), words, "start")


# ---- blocks ---------------------------------------------------------------------------------------------


def layers(result: Result) -> Chart:
    """What each block knows: the linear probe on the left, the alignment with the teacher on the right."""
    probes = {
        name: float(result.row(row).value or 0)
        for name, row in {"teacher": rows.TEACHER_PROBE, "pixels": rows.PIXELS_PROBE}.items()
    }
    pixels = {"pixels": float(result.row(rows.PIXELS_ALIGNMENT).value or 0)}
    aligned = int(result.subject["aligned_block"])
    left = _blocks_panel(60, _block_lines(result, "probe"), probes, aligned)
    right = _blocks_panel(560, _block_lines(result, "alignment"), pixels, aligned)
    titles = ("Linear probe: digits recognised, %", "CKNNA with the teacher")
    heads = [text((at, 26), title, "start", "title") for at, title in zip((16, 516), titles, strict=True)]
    description = f"By block, plain and with REPA: {titles[0]}; {titles[1]}"
    return Chart(1000, 400, description, "".join([*heads, left, right]))


def _block_lines(result: Result, what: str) -> list[Line]:
    """The medians over seeds: one line for each arm and depth in noise."""
    name = {"probe": rows.probe_name, "alignment": rows.alignment_name}[what]
    lines = []
    for arm in LABELS:
        for depth, dash in zip(DEPTHS, DASHES, strict=True):
            by_seed = result.row(name(arm, depth)).details["blocks"]
            medians = np.median(by_seed, axis=0).tolist()
            lines.append(Line(list(enumerate(medians, 1)), arm + dash, f"{LABELS[arm]}, t = {depth:g}"))
    return lines


def _blocks_panel(left: float, lines: Sequence[Line], levels: dict[str, float], aligned: int) -> str:
    depth = len(lines[0].points)
    values = [y for line in lines for _, y in line.points] + list(levels.values())
    ticks = enclosing_ticks(min(values), max(values))
    panel = Panel(
        left,
        left + 320,
        48,
        330,
        Axis("block", 0.8, depth + 0.2, range(1, depth + 1)),
        Axis("", ticks[0], ticks[-1], ticks),
    )
    references = [Line([(0.8, value), (depth + 0.2, value)], "level", name) for name, value in levels.items()]
    foot = text((panel.place((aligned, ticks[0]))[0], panel.bottom + 38), "aligned", kind="repa")
    return panel.axes() + panel.lines([*references, *lines]) + foot
