"""The loss curve: round ticks, valid SVG, points where they belong."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dbench import chart


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.06, 0.75, [0.05, 0.1, 0.2, 0.5, 1]),
        (0.1, 0.1, [0.1, 0.2]),
        (1, 10, [1, 2, 5, 10]),
        (0.2, 0.5, [0.2, 0.5]),
        (3e-4, 8e-4, [2e-4, 5e-4, 1e-3]),
    ],
)
def test_log_ticks_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert chart.log_ticks(low, high) == ticks


@pytest.mark.parametrize(
    ("high", "ticks"),
    [(1600, [0, 500, 1000, 1500]), (2, [0, 0.5, 1, 1.5, 2]), (100_000, [0, 20_000, 40_000, 60_000, 80_000, 100_000])],
)
def test_linear_ticks(high: float, ticks: list[float]) -> None:
    assert chart.linear_ticks(high) == pytest.approx(ticks)


def test_running_median_ignores_an_outlier() -> None:
    assert chart.running_median([1, 1, 50, 1, 1], window=3) == [1, 1, 1, 1, 1]
    assert chart.running_median([4, 2], window=9) == [3, 3]


def test_the_curve_is_svg_with_labelled_axes() -> None:
    svg = ElementTree.fromstring(chart.loss_curve([10, 20, 40], [1.0, 0.1, 0.5], "falls & rises"))
    assert svg.get("aria-label") == "falls & rises"
    texts = {element.text for element in svg.iter("text")}
    assert {"training step", "mean squared error", "0.1", "1", "40"} <= texts
    (logged,) = (path.get("d") or "" for path in svg.iter("path") if path.get("class") == "logged")
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", logged)[1:]]
    assert points[0][1] == chart.TOP
    assert points[1][1] == chart.HEIGHT - chart.BOTTOM
    assert points[2][0] == chart.WIDTH - chart.RIGHT


def test_one_point() -> None:
    ElementTree.fromstring(chart.loss_curve([1], [0.3], "one"))
