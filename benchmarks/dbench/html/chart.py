"""Line charts as SVG. Within a page they have the colours of the page; a separate file contains `chart.css`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np

WIDTH, HEIGHT = 720, 330
LEFT, RIGHT, TOP, BOTTOM = 92, 16, 14, 64
#: The number of logged values in the median of the smooth line.
WINDOW = 9
#: Between the baselines of two labels, so that they do not touch.
LABEL_GAP = 17

Point = tuple[float, float]
Points = list[Point]


@dataclass(frozen=True)
class Chart:
    """A finished drawing; sizes are in SVG units, which are pixels at full size."""

    width: int
    height: int
    description: str  # a description for people who do not see the chart
    markup: str

    def inline(self) -> str:
        """For a page that has `chart.css`."""
        return f"<svg {self._attributes()}>{self.markup}</svg>"

    def standalone(self) -> str:
        """The content of an .svg file: its own ground and colours, light or dark as the reader's system is."""
        size = f'xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}"'
        ground = '<rect class="ground" width="100%" height="100%"/>'
        return f"<svg {size} {self._attributes()}>\n<style>\n{style()}</style>\n{ground}{self.markup}</svg>\n"

    def _attributes(self) -> str:
        box, label = f"0 0 {self.width} {self.height}", escape(self.description)
        return f'class="chart" viewBox="{box}" role="img" aria-label="{label}"'


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, straight or logarithmic."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis: 0 at `low`, 1 at `high`."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low)


@dataclass(frozen=True)
class Line:
    points: Points  # in the axes' units, from left to right
    kind: str  # CSS classes
    label: str = ""  # to the right of its end


@dataclass(frozen=True)
class Panel:
    """Axes and what lies between them; the edges are in SVG units."""

    left: float
    right: float
    top: float
    bottom: float
    x: Axis
    y: Axis

    def place(self, point: Point) -> Point:
        """Where a point of the axes' units lies in the drawing."""
        across, up = self.x.share(point[0]), self.y.share(point[1])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def axes(self) -> str:
        """Rules, ticks and labels; that of y reads upwards."""
        across, middle = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        upwards = f"translate({self.left - 74:g} {middle:g}) rotate(-90)"
        return "".join(
            [
                *(self._y_tick(tick) for tick in self.y.ticks),
                *(self._x_tick(tick) for tick in self.x.ticks),
                text((across, self.bottom + 56), self.x.label),
                f'<g transform="{upwards}">{text((0, 0), self.y.label)}</g>' if self.y.label else "",
            ]
        )

    def lines(self, lines: Sequence[Line]) -> str:
        """The lines, and their labels beside their ends, moved apart where these are near each other."""
        labelled = [line for line in lines if line.label]
        heights = spread_apart([self.place(line.points[-1])[1] for line in labelled], LABEL_GAP)
        labels = [
            text((self.right + 8, height + 4), line.label, "start", line.kind)
            for line, height in zip(labelled, heights, strict=True)
        ]
        return "".join([*(path(map(self.place, line.points), line.kind) for line in lines), *labels])

    def _y_tick(self, value: float) -> str:
        y = self.place((self.x.low, value))[1]
        rule = f'<path class="rule" d="M{self.left:g} {y:.1f}H{self.right:g}"/>'
        return rule + text((self.left - 8, y + 4), f"{value:g}", "end")

    def _x_tick(self, value: float) -> str:
        x = self.place((value, self.y.low))[0]
        rule = f'<path class="rule" d="M{x:.1f} {self.bottom:g}v6"/>'
        return rule + text((x, self.bottom + 22), f"{value:,g}")


def loss_curve(steps: Sequence[float], losses: Sequence[float], description: str) -> str:
    """Training loss over steps, logarithmic if it can be: every logged value, thin, and a running median, thick.

    steps: increasing; losses: as many, finite. Returns SVG for a page.
    """
    low, high, last = min(losses), max(losses), max(steps)
    is_log = low > 0  # a contrastive loss may be negative
    ticks = log_ticks(low, high) if is_log else enclosing_ticks(low, high)
    panel = Panel(
        LEFT,
        WIDTH - RIGHT,
        TOP,
        HEIGHT - BOTTOM,
        Axis("training step", 0, last, linear_ticks(last)),
        Axis("loss", ticks[0], ticks[-1], ticks, is_log),
    )
    logged = Line(list(zip(steps, losses, strict=True)), "logged")
    smooth = Line(list(zip(steps, running_median(losses), strict=True)), "smooth")
    return Chart(WIDTH, HEIGHT, description, panel.axes() + panel.lines([logged, smooth])).inline()


# ---- numbers --------------------------------------------------------------------------------------------


def running_median(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """The median of the values around each.

    Where fewer lie before it, as many are taken after it: the line starts at the first value and stays on a curve that
    falls steeply there. At the end, where curves are flat, the window is cut off.
    """
    reaches = (min(window // 2, i) for i in range(len(values)))
    return [float(np.median(values[i - reach : i + reach + 1])) for i, reach in enumerate(reaches)]


def log_ticks(low: float, high: float) -> list[float]:
    """Values 1, 2 and 5 times powers of ten, from below `low` to above `high`."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{mantissa}e{exponent}") for exponent in exponents for mantissa in (1, 2, 5)]
    first = max(i for i, tick in enumerate(ticks) if tick <= low)
    last = min(i for i, tick in enumerate(ticks) if tick >= high and i > first)
    return ticks[first : last + 1]


def linear_ticks(high: float) -> list[float]:
    """About five round values from 0 up to `high`."""
    step = _round_step(high / 5)
    return [i * step for i in range(int(high / step + 1e-9) + 1)]


def enclosing_ticks(low: float, high: float) -> list[float]:
    """About five round values from below `low` to above `high`, which may be equal."""
    step = _round_step(max(high - low, 1e-3 * max(1, abs(high))) / 5)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [i * step for i in range(first, last + 1)]


def _round_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return min((m * magnitude for m in (1, 2, 5, 10)), key=lambda candidate: abs(math.log(candidate / rough)))


def spread_apart(wanted: Sequence[float], gap: float) -> list[float]:
    """The values nearest to the wanted ones, in squares, that keep their order and lie at least `gap` apart.

    Less the i-th gaps they only have to rise: an isotonic regression, by pooling of neighbours (Barlow et al. 1972).
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([wanted[i] - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [float(np.mean(pool)) for pool in pools for _ in pool]
    moved = {i: levels[rank] + rank * gap for rank, i in enumerate(order)}
    return [moved[i] for i in range(len(wanted))]


# ---- SVG ------------------------------------------------------------------------------------------------


def style() -> str:
    """The style sheet of charts, with the colours of the page."""
    return files("dbench.html").joinpath("chart.css").read_text(encoding="utf-8")


def text(at: Point, words: str, anchor: str = "middle", kind: str = "") -> str:
    """Words on a baseline. anchor: what of them lies at the point: start, middle or end."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"{attribute}>{escape(words)}</text>'


def path(points: Sequence[Point] | map[Point], kind: str) -> str:
    """A line through points of the drawing."""
    through = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{through}"/>'
