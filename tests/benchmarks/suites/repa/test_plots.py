"""The plots of the comparison: drawn from the JSON alone, valid, labelled; and the words beside them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from dbench.core import machine, record
from dbench.core.record import Result, number
from dbench.core.timing import Spread
from dbench.report import Sources, write_report
from dbench.suites.repa import digest, plots, rows, section
from dbench.suites.repa.costs import Costs
from dbench.suites.repa.crossing import Curve
from dbench.suites.repa.eyes import Eyes
from dbench.suites.repa.rows import Measurements, to_rows
from drun.console import silent

SVG = "{http://www.w3.org/2000/svg}"
STEPS = (10, 20, 30, 40)
PLAIN = ((8.0, 4.0, 2.0, 1.0), (9.0, 4.0, 2.0, 1.0), (8.0, 5.0, 2.0, 1.1))
FAST = ((4.0, 1.0, 0.5, 0.2), (4.0, 1.0, 0.4, 0.2), (5.0, 1.1, 0.5, 0.3))


RANDOM = ((8.0, 4.0, 2.0, 1.2), (9.0, 4.5, 2.0, 1.2), (8.0, 5.0, 2.5, 1.2))
COSTS = Costs(0.1, 0.11, 0.1, Spread(1.1, 1.0, 1.2), Spread(1.0, 0.9, 1.1), 20)


def eyes_of(kind: str) -> Eyes:
    return Eyes(
        kind,
        f"eyes for {kind}",
        "0" * 64,
        "1" * 64,
        lambda images: np.zeros((1, 1)),
        np.zeros((9, 1)),
        (0.06, 0.07, 0.08),
    )


def result_of(plain: tuple[tuple[float, ...], ...], repa: tuple[tuple[float, ...], ...], probed: bool = True) -> Result:
    """As the suite makes it, of curves and of blocks that know more the deeper they lie."""
    blocks = [{"probe": [[0.5, 0.75 + seed / 100], [0.25, 0.5]] if probed else [],
               "alignment": [[0.1, 0.3], [0.05, 0.2]]} for seed in range(3)]  # fmt: skip
    arms = {"plain": plain, "repa": repa, "random": RANDOM}
    curves = {arm: [Curve(STEPS, curve) for curve in each] for arm, each in arms.items()}
    found = Measurements(
        (0, 1, 4),
        [eyes_of("features"), eyes_of("pixels")],
        {"features": curves, "pixels": curves | {"repa": curves["plain"]}},
        {"plain": blocks, "repa": blocks[::-1], "random": blocks},
        {
            "teacher_probe": 0.99 if probed else None,
            "pixels_probe": 0.9 if probed else None,
            "pixels_alignment": 0.15,
        },
        COSTS,
    )
    subject = {
        "name": "digits-sit", "checkpoint_sha256": ["0" * 64, "1" * 64], "aligned_block": 1,
        "model": {"num_classes": 10}, "teacher": {"name": "wise"},
        "alignment": {"encoder_depth": 1, "projector": "conv", "stop_after": 20},
    }  # fmt: skip
    settings = {"samples": 64, "sampling_steps": 5, "eyes": ["features", "pixels"], "seeds": [0, 1, 4]}
    return Result(tuple(to_rows(found)), subject, settings, machine.fingerprint(), "dbench repa")


@pytest.fixture
def fast() -> Result:
    return result_of(PLAIN, FAST)


@pytest.fixture
def slow() -> Result:
    return result_of(FAST, PLAIN)


def test_the_rows(fast: Result) -> None:
    """At half of the budget the plain model is at 4, which REPA has at its first step."""
    values = {row.name: row.value for row in fast.rows}
    assert len(values) == len(fast.rows)
    assert values[rows.steps_name("features", "repa", 20)] == pytest.approx(2)
    assert values[rows.steps_name("features", "repa", 40)] == pytest.approx(2)
    assert values[rows.steps_name("pixels", "repa", 20)] == 1
    assert values[rows.steps_name("features", "random", 20)] == 1
    # 20 plain steps of 0.1 s to 10 aligned ones of 0.11 s, and 40 to 20.
    assert values[rows.seconds_name("features", "repa", 20)] == pytest.approx(2 / 1.1)
    assert values[rows.ratio_name("features", "repa")] == pytest.approx(5)
    assert values["plain, linear probe at t = 0.25, best block"] == pytest.approx(76)
    assert values["REPA, CKNNA with the teacher at t = 0.5, best block"] == pytest.approx(0.2)
    assert values[rows.floor_name("features")] == pytest.approx(0.07)
    (headline,) = (row for row in fast.rows if row.headline)
    assert (headline.name, headline.unit) == (rows.steps_name("features", "repa", 20), "x")


def test_an_alignment_that_ended_costs_no_more() -> None:
    assert COSTS.seconds("plain", 30) == pytest.approx(3)
    assert COSTS.seconds("repa", 10) == pytest.approx(1.1)
    assert COSTS.seconds("repa", 30) == pytest.approx(20 * 0.11 + 10 * 0.1)
    assert replace(COSTS, stop_after=0).seconds("random", 30) == pytest.approx(3.3)


def test_targets_are_evaluated_steps() -> None:
    assert rows.target_steps((200, 400, 600, 800, 1000, 1200, 1400, 1600)) == [400, 800, 1200, 1600]
    assert rows.target_steps((2, 4)) == [4]  # nothing is known of before the first
    assert rows.half_of((200, 400, 600)) == 400


def test_who_is_slower_is_called_so(slow: Result) -> None:
    row = slow.row(rows.steps_name("features", "repa", 20))
    assert row.value == pytest.approx(0.5)
    assert "REPA needs more steps" in row.headline
    assert plots.verdict(slow) == "2.00× more steps with REPA"
    assert plots.describe(slow).endswith("REPA reaches the plain model's distance of step 20 in 3 of 3.")
    assert plots.verdict(result_of(PLAIN, FAST)) == "2.00× fewer steps with REPA"
    assert plots.verdict(result_of(PLAIN, PLAIN)) == "As many steps with REPA"


def test_without_labels_only_the_alignment_is_drawn() -> None:
    result = result_of(PLAIN, FAST, probed=False)
    assert not any("probe" in row.name for row in result.rows)
    said = {text.text for text in ElementTree.fromstring(plots.layers(result).standalone()).iter(f"{SVG}text")}
    assert "CKNNA with the teacher" in said
    assert not any("recognised" in str(each) for each in said)


def test_the_line_in_the_readme(fast: Result) -> None:
    (line,) = [line for line in digest([("digits-repa", fast)]).splitlines() if "`digits-repa`" in line]
    assert (
        "| 10 | 0, 1, 4 | eyes for features | wise | block 1, weight 0.5, conv, 20 steps | 2.00 (2.00 to 2.00)" in line
    )


@pytest.mark.parametrize("curves", [(PLAIN, FAST), (FAST, PLAIN), (PLAIN, PLAIN)])
def test_the_plots_are_svg_files_that_stand_alone(curves: tuple[tuple[tuple[float, ...], ...], ...]) -> None:
    charts = plots.draw(result_of(*curves))
    assert set(charts) == {"distances", "seconds", "distances-pixels", "layers"}
    for chart in charts.values():
        svg = ElementTree.fromstring(chart.standalone())
        assert svg.tag == f"{SVG}svg"
        assert svg.find(f"{SVG}style") is not None
        inside = chart.standalone().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|@import|url\(", inside)
        width, height = float(svg.get("width") or 0), float(svg.get("height") or 0)
        for text in svg.iter(f"{SVG}text"):
            assert 0 <= float(text.get("x") or -1) <= width or str(text.text).startswith("Fréchet distance, eyes for")
            assert float(text.get("y") or 0) <= height


def test_what_the_plots_say(fast: Result) -> None:
    charts = {name: ElementTree.fromstring(chart.standalone()) for name, chart in plots.draw(fast).items()}
    said = {name: {text.text for text in svg.iter(f"{SVG}text")} for name, svg in charts.items()}
    lines = {"plain", "with REPA", "random teacher", "real images to real images"}
    assert {*lines, "2.00×", "training step"} <= said["distances"]
    assert {*lines, "seconds of training"} <= said["seconds"]
    assert {"teacher", "pixels", "plain, t = 0.25", "REPA, t = 0.5", "aligned"} <= said["layers"]
    kinds = [path.get("class") for path in charts["distances"].iter(f"{SVG}path")]
    assert [kinds.count(kind) for kind in ("plain thin", "repa thin", "random thin", "plain", "repa")] == [
        3,
        3,
        3,
        1,
        1,
    ]


def test_the_gain_is_drawn_where_it_was_measured(fast: Result) -> None:
    svg = ElementTree.fromstring(plots.over_steps(fast, "features").inline())
    gain = next(path.get("d") or "" for path in svg.iter("path") if path.get("class") == "gain")
    (left, level), (right, other) = (map(float, point.split()) for point in gain[1:].split("L"))
    assert level == other
    ticks = {text.text: float(text.get("x") or 0) for text in svg.iter("text")}
    assert (left, right) == pytest.approx((ticks["10"], ticks["20"]), abs=0.2)


def test_the_json_is_enough_to_draw_them_anew(fast: Result, tmp_path: Path) -> None:
    as_json, _ = record.write(fast, tmp_path)
    assert plots.draw(record.read(as_json)) == plots.draw(fast)


def test_the_section_of_a_report(slow: Result) -> None:
    markup = section(slow)
    assert markup.count("<svg") == 4
    assert "<style" not in markup
    assert "2.00× more steps with REPA to the same Fréchet distance" in markup
    assert "An aligned step takes 1.10 times as long as a plain one." in markup


def test_a_report_of_one_of_the_runs_has_the_section(fast: Result, model: Any, tmp_path: Path) -> None:
    of = [model.open().manifest.model.checkpoint["sha256"], "1" * 64]
    record.write(replace(fast, subject=fast.subject | {"checkpoint_sha256": of}), tmp_path)
    out = tmp_path / "page.html"
    key_numbers = write_report(out, Sources(model.bundle, results=(tmp_path,)), silent)
    text = out.read_text(encoding="utf-8")
    assert ("2.00×", fast.row(rows.steps_name("features", "repa", 20)).headline) in {
        (key.number, key.meaning) for key in key_numbers
    }
    assert "What does REPA gain?" in text
    assert plots.over_steps(fast, "features").inline() in text
    assert plots.layers(fast).inline() in text
    assert not re.search(r"https?:|@import|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))


def test_each_plot_says_what_it_shows(fast: Result) -> None:
    """Steps of its own distance; seconds where it is over seconds."""
    charts = plots.draw(fast)
    steps = {kind: fast.row(rows.steps_name(kind, "repa", plots.half(fast))).value or 0 for kind in plots.kinds(fast)}
    assert f"{number(steps['features'])}× fewer steps" in charts["distances"].standalone()
    assert "As many steps" in charts["distances-pixels"].standalone()
    assert steps["pixels"] == 1
    seconds = fast.row(rows.seconds_name("features", "repa", plots.half(fast))).value or 0
    assert f"{number(seconds)}× less time with REPA" in charts["seconds"].standalone()
