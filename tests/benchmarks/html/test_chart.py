"""Charts: round ticks, valid SVG, points and labels where they belong."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbench.html import chart


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
    assert chart.running_median([4, 2], window=9) == [4, 3]


def test_the_smooth_line_lies_on_a_curve_that_falls_steeply_from_its_first_point() -> None:
    falling = [0.8**i for i in range(30)]
    smooth = chart.running_median(falling)
    assert smooth[:26] == pytest.approx(falling[:26])
    assert smooth[-1] == pytest.approx(falling[-3])  # of the five values that are left


def test_the_curve_is_svg_with_labelled_axes() -> None:
    svg = ElementTree.fromstring(chart.loss_curve([10, 20, 40], [1.0, 0.1, 0.5], "falls & rises"))
    assert svg.get("aria-label") == "falls & rises"
    texts = {element.text for element in svg.iter("text")}
    assert {"training step", "loss", "0.1", "1", "40"} <= texts
    (logged,) = (path.get("d") or "" for path in svg.iter("path") if path.get("class") == "logged")
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", logged)[1:]]
    assert points[0][1] == chart.TOP
    assert points[1][1] == chart.HEIGHT - chart.BOTTOM
    assert points[2][0] == chart.WIDTH - chart.RIGHT


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (71, 99.5, [70, 75, 80, 85, 90, 95, 100]),
        (0, 0.19, [0, 0.05, 0.1, 0.15, 0.2]),
        (-0.01, 0.02, [-0.01, -0.005, 0, 0.005, 0.01, 0.015, 0.02]),
    ],
)
def test_enclosing_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert chart.enclosing_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-100, 100), st.floats(0, 100))
def test_enclosing_ticks_enclose(low: float, width: float) -> None:
    ticks = chart.enclosing_ticks(low, low + width)
    reach = 1e-6 * (1 + abs(low))
    assert ticks[0] <= low + reach
    assert ticks[-1] >= low + width - reach
    assert 2 <= len(ticks) <= 12


def test_labels_move_apart_no_farther_than_they_must() -> None:
    assert chart.spread_apart([10, 50, 90], 17) == [10, 50, 90]
    assert chart.spread_apart([50, 40], 20) == [55, 35]
    assert chart.spread_apart([0, 0, 100], 10) == [-5, 5, 100]
    assert chart.spread_apart([], 10) == []


@given(st.lists(st.floats(0, 300), max_size=8))
def test_labels_keep_their_order_and_centre(wanted: list[float]) -> None:
    moved = chart.spread_apart(wanted, 17)
    assert sum(moved) == pytest.approx(sum(wanted), abs=1e-6)
    rising = sorted(moved)
    assert all(above - below >= 17 - 1e-6 for below, above in pairwise(rising))
    assert [moved[i] for i in sorted(range(len(wanted)), key=lambda i: wanted[i])] == rising


def test_a_file_of_its_own_brings_its_colours_and_a_page_does_not() -> None:
    drawing = chart.Chart(20, 10, "a < b", chart.text((1, 2), "x > y"))
    alone = ElementTree.fromstring(drawing.standalone())
    assert (alone.get("width"), alone.get("height"), alone.get("aria-label")) == ("20", "10", "a < b")
    style = alone.find("{http://www.w3.org/2000/svg}style")
    assert "prefers-color-scheme: dark" in (style.text or "" if style is not None else "")
    within = ElementTree.fromstring(drawing.inline())
    assert [child.tag for child in within] == ["text"]


def test_places_on_straight_and_logarithmic_axes() -> None:
    panel = chart.Panel(100, 200, 0, 50, chart.Axis("x", 0, 10, []), chart.Axis("y", 1, 100, [], log=True))
    assert panel.place((5, 10)) == pytest.approx((150, 25))
    assert panel.place((0, 1)) == pytest.approx((100, 50))
    assert panel.place((10, 100)) == pytest.approx((200, 0))


def test_a_loss_below_zero_is_drawn_on_a_straight_axis() -> None:
    svg = ElementTree.fromstring(chart.loss_curve([1, 2, 3], [1.0, 0.0, -1.0], "falls"))
    assert {"-1", "0", "1"} <= {element.text for element in svg.iter("text")}
    (logged,) = (path.get("d") or "" for path in svg.iter("path") if path.get("class") == "logged")
    heights = [float(point.split()[1]) for point in re.split("[ML]", logged)[1:]]
    middle = (chart.TOP + chart.HEIGHT - chart.BOTTOM) / 2
    assert heights == pytest.approx([chart.TOP, middle, chart.HEIGHT - chart.BOTTOM])


def test_one_point_lies_at_the_end_of_the_axis_and_between_the_ticks_around_it() -> None:
    svg = ElementTree.fromstring(chart.loss_curve([1], [0.3], "one"))
    ticks = {text.text: float(text.get("y") or 0) - 4 for text in svg.iter("text") if text.get("text-anchor") == "end"}
    assert set(ticks) == {"0.2", "0.5"}
    for kind in ("logged", "smooth"):
        (d,) = (path.get("d") or "" for path in svg.iter("path") if path.get("class") == kind)
        ((x, y),) = (tuple(map(float, point.split())) for point in re.split("[ML]", d)[1:])
        assert x == chart.WIDTH - chart.RIGHT
        share = math.log(0.3 / 0.2) / math.log(0.5 / 0.2)
        assert y == pytest.approx(ticks["0.2"] + share * (ticks["0.5"] - ticks["0.2"]), abs=0.1)
