"""Draws the plots of the comparison from its result alone, so that its JSON is enough to draw them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbench.core import timing
from dbench.core.record import Result, number
from dbench.html.chart import Axis, Chart, Line, Panel, enclosing_ticks, linear_ticks, log_ticks, path, text
from dbench.suites.repa import rows
from dbench.suites.repa.crossing import Curve, median_curve, speedup
from dbench.suites.repa.plan import DEPTHS, LABELS, PLAIN, RANDOM, REPA

LINE_LABELS = {PLAIN: "plain", REPA: "with REPA", RANDOM: "random teacher"}
#: Where there is less room.
SHORT_LABELS = {PLAIN: "plain", REPA: "REPA", RANDOM: "random"}
#: CSS classes of the lines of DEPTHS.
DASHES = ("", " dashed")
#: The shortest line that is labelled with its factor; the title states the factor, too.
LABEL_WIDTH = 70


def draw(result: Result) -> dict[str, Chart]:
    """Name -> chart."""
    first, *others = kinds(result)
    return {
        "distances": over_steps(result, first),
        "seconds": over_seconds(result, first),
        **{f"distances-{kind}": over_steps(result, kind) for kind in others},
        "layers": layers(result),
    }


def kinds(result: Result) -> list[str]:
    """The kinds of eyes, the most telling one first."""
    return list(result.settings["eyes"])


def describe(result: Result, kind: str | None = None) -> str:
    """The conditions of `verdict`. kind: of eyes; None: the most telling."""
    each = rows.gains(result, kind or kinds(result)[0], REPA, half(result))
    reached, times = sum(gain["reached"] for gain in each), factors(result, kind)
    seeds = f"Median of {len(each)} seeds, from {number(min(times))} to {number(max(times))}"
    return (
        f"{seeds if len(each) > 1 else 'One seed'}. "
        f"REPA reaches the plain model's distance of step {half(result):,} in {reached} of {len(each)}."
    )


def verdict(result: Result, kind: str | None = None) -> str:
    """How many times fewer steps at half of the budget, in words. kind: of eyes; None: the most telling."""
    ratio = _median([gain["ratio"] for gain in rows.gains(result, kind or kinds(result)[0], REPA, half(result))])
    return _in_words(ratio, "As many steps", "fewer steps", "more steps")


def factors(result: Result, kind: str | None = None) -> list[float]:
    """How many times fewer steps REPA needs, by seed, or, if `verdict` says so, how many times more."""
    ratios = [float(gain["ratio"]) for gain in rows.gains(result, kind or kinds(result)[0], REPA, half(result))]
    return ratios if _median(ratios) >= 1 else [1 / ratio for ratio in ratios]


def _in_words(ratio: float, equal: str, less: str, more: str) -> str:
    if number(ratio) == number(1):
        return f"{equal} with REPA"
    return f"{number(max(ratio, 1 / ratio))}× {less if ratio >= 1 else more} with REPA"


def _median(values: Sequence[float]) -> float:
    return timing.spread(list(values)).median


def half(result: Result) -> int:
    """The step of the plain model that the headline is about."""
    return rows.half_of(read_curves(result, kinds(result)[0], PLAIN)[0].steps)


# ---- distance over steps and seconds --------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
    """The x axis of a chart of distances."""

    label: str
    places: dict[str, list[float]]  # arm -> where its checkpoints lie


def over_steps(result: Result, kind: str) -> Chart:
    """Fréchet distance over training steps: every seed thin, their medians thick, and what REPA gains."""
    curves = {arm: read_curves(result, kind, arm) for arm in LABELS}
    ground = Ground("training step", {arm: list(map(float, each[0].steps)) for arm, each in curves.items()})
    title = f"{verdict(result, kind)} to the same distance"
    return _chart(result, kind, ground, title, describe(result, kind), is_gain_shown=kind == kinds(result)[0])


def over_seconds(result: Result, kind: str) -> Chart:
    """The same over the time that these steps take, as they were measured in turns."""
    places = {arm: list(result.row(rows.final_name(kind, arm)).details["seconds"]) for arm in LABELS}
    row = result.row(rows.seconds_name(kind, REPA, half(result)))
    title = f"{_in_words(row.value or 1, 'As much time', 'less time', 'more time')} to the same distance"
    note = f"The distance that the plain model has at step {half(result):,}; the training of the teacher is left out."
    return _chart(result, kind, Ground("seconds of training", places), title, note, is_gain_shown=False)


def _chart(result: Result, kind: str, ground: Ground, title: str, note: str, is_gain_shown: bool) -> Chart:
    curves = {arm: read_curves(result, kind, arm) for arm in LABELS}
    floor = result.row(rows.floor_name(kind))
    last = max(places[-1] for places in ground.places.values())
    seen = [value for each in curves.values() for curve in each for value in curve.distances]
    lowest = float(floor.value or 0)
    ticks = log_ticks(min(*seen, lowest), max(seen))
    x_axis = Axis(ground.label, 0, last, linear_ticks(last))
    panel = Panel(
        98,
        640,
        66,
        386,
        x_axis,
        Axis(f"Fréchet distance, {floor.details['name']}", ticks[0], ticks[-1], ticks, log=True),
    )
    medians = {arm: median_curve(each) for arm, each in curves.items()}
    lines = [Line(_points(ground, arm, curve), f"{arm} thin") for arm in LABELS for curve in curves[arm]]
    thick = [Line(_points(ground, arm, curve), arm, LINE_LABELS[arm]) for arm, curve in medians.items()]
    markup = [
        text((16, 26), title, "start", "title"),
        text((16, 46), note, "start"),
        panel.axes(),
        _level(panel, lowest, "real images to real images"),
        panel.lines(lines),
        panel.lines(thick),
        _gain(panel, medians, half(result), f"{number(_median(factors(result)))}×") if is_gain_shown else "",
    ]
    return Chart(780, 452, f"Fréchet distance over {ground.label}s. {title}. {note}", "".join(markup))


def read_curves(result: Result, kind: str, arm: str) -> list[Curve]:
    """The curves of all seeds of an arm."""
    details = result.row(rows.final_name(kind, arm)).details
    return [Curve(tuple(details["steps"]), tuple(values)) for values in details["distances"]]


def _points(ground: Ground, arm: str, curve: Curve) -> list[tuple[float, float]]:
    return list(zip(ground.places[arm], curve.distances, strict=True))


def _gain(panel: Panel, medians: Mapping[str, Curve], at: int, words: str) -> str:
    """The steps between the medians at the level where they are compared."""
    gain = speedup(medians[PLAIN], medians[REPA], at)
    ends_of = (gain.plain_steps, gain.aligned_steps)
    (left, y), (right, _) = sorted(panel.place((steps, gain.target)) for steps in ends_of)
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
    """What each block knows: the alignment with the teacher and, where there are labels, the linear probe."""
    pixels = {"pixels": float(result.row(rows.PIXELS_ALIGNMENT).value or 0)}
    panels = [("CKNNA with the teacher", _block_lines(result, "alignment"), pixels)]
    shares = {row.name: float(row.value or 0) for row in result.rows}
    if rows.TEACHER_PROBE in shares:
        probes = {"teacher": shares[rows.TEACHER_PROBE], "pixels": shares[rows.PIXELS_PROBE]}
        panels.insert(0, ("Linear probe: images recognised, %", _block_lines(result, "probe"), probes))
    aligned, markup = int(result.subject["aligned_block"]), []
    for place, (title, lines, levels) in enumerate(panels):
        left = 540 * place
        markup += [text((16 + left, 26), title, "start", "title"), _blocks_panel(60 + left, lines, levels, aligned)]
    description = f"By block, plain and with REPA: {'; '.join(title for title, _, _ in panels)}"
    return Chart(540 * len(panels), 400, description, "".join(markup))


def _block_lines(result: Result, what: str) -> list[Line]:
    """The medians over seeds: one line for each arm and depth in noise."""
    name = {"probe": rows.probe_name, "alignment": rows.alignment_name}[what]
    lines = []
    for arm in LABELS:
        for depth, dash in zip(DEPTHS, DASHES, strict=True):
            by_seed = result.row(name(arm, depth)).details["blocks"]
            medians = np.median(by_seed, axis=0).tolist()
            lines.append(Line(list(enumerate(medians, 1)), arm + dash, f"{SHORT_LABELS[arm]}, t = {depth:g}"))
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
