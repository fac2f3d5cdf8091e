"""A line chart as inline SVG: text and lines take the page's colours, so it suits light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 720, 330
LEFT, RIGHT, TOP, BOTTOM = 92, 16, 14, 64
#: Logged values that the smooth line takes the median of.
WINDOW = 9

Points = list[tuple[float, float]]


def loss_curve(steps: Sequence[float], losses: Sequence[float], description: str) -> str:
    """Training loss over steps, logarithmic: every logged value, thin, and a running median, thick.

    steps: increasing; losses: as many, positive and finite.
    """
    ticks = log_ticks(min(losses), max(losses))
    last = max(steps)
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def place(step: float, loss: float) -> tuple[float, float]:
        across, up = step / last, (math.log(loss) - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    logged = [place(*point) for point in zip(steps, losses, strict=True)]
    smooth = [place(*point) for point in zip(steps, running_median(losses), strict=True)]
    parts = [
        *(_y_tick(place(0, tick)[1], f"{tick:g}") for tick in ticks),
        *(_x_tick(place(tick, ticks[0])[0], f"{tick:,g}") for tick in linear_ticks(last)),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "training step", "middle"),
        f'<g transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)">'
        f"{_text(0, 0, 'mean squared error', 'middle')}</g>",
        _line(logged, "logged"),
        _line(smooth, "smooth"),
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def running_median(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """The median of the values around each, fewer at both ends."""
    reach = window // 2
    return [float(np.median(values[max(0, i - reach) : i + reach + 1])) for i in range(len(values))]


def log_ticks(low: float, high: float) -> list[float]:
    """Values 1, 2 and 5 times powers of ten, from below `low` to above `high`."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{mantissa}e{exponent}") for exponent in exponents for mantissa in (1, 2, 5)]
    first = max(i for i, tick in enumerate(ticks) if tick <= low)
    last = min(i for i, tick in enumerate(ticks) if tick >= high and i > first)
    return ticks[first : last + 1]


def linear_ticks(high: float) -> list[float]:
    """About five round values from 0 up to `high`."""
    rough = high / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = min((m * magnitude for m in (1, 2, 5, 10)), key=lambda candidate: abs(math.log(candidate / rough)))
    return [i * step for i in range(int(high / step + 1e-9) + 1)]


def _y_tick(y: float, label: str) -> str:
    return f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>{_text(LEFT - 8, y + 4, label, "end")}'


def _x_tick(x: float, label: str) -> str:
    base = HEIGHT - BOTTOM
    return f'<path class="rule" d="M{x:.1f} {base}v6"/>{_text(x, base + 22, label, "middle")}'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(points: Points, kind: str) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{path}"/>'
