"""The plots of the comparison: drawn from the JSON alone, valid, labelled; and the words beside them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dbench.core import machine, record
from dbench.core.record import Result
from dbench.core.timing import Spread
from dbench.report import Sources, write_report
from dbench.suites.repa import plots, rows, section
from dbench.suites.repa.crossing import Curve
from dbench.suites.repa.rows import Measurements, to_rows
from drun.console import silent

SVG = "{http://www.w3.org/2000/svg}"
STEPS = (10, 20, 30, 40)
PLAIN = ((8.0, 4.0, 2.0, 1.0), (9.0, 4.0, 2.0, 1.0), (8.0, 5.0, 2.0, 1.1))
FAST = ((4.0, 1.0, 0.5, 0.2), (4.0, 1.0, 0.4, 0.2), (5.0, 1.1, 0.5, 0.3))


def result_of(plain: tuple[tuple[float, ...], ...], repa: tuple[tuple[float, ...], ...]) -> Result:
    """As the suite makes it, of curves and of blocks that know more the deeper they lie."""
    blocks = [{"probe": [[0.5, 0.75 + seed / 100], [0.25, 0.5]], "alignment": [[0.1, 0.3], [0.05, 0.2]]}
              for seed in range(3)]  # fmt: skip
    found = Measurements(
        (0, 1, 4),
        {"plain": [Curve(STEPS, curve) for curve in plain], "repa": [Curve(STEPS, curve) for curve in repa]},
        {"plain": blocks, "repa": blocks[::-1]},
        {"teacher_probe": 0.99, "pixels_probe": 0.9, "pixels_alignment": 0.15},
        Spread(0.07, 0.06, 0.08),
    )
    subject = {"name": "digits-sit", "checkpoint_sha256": ["0" * 64, "1" * 64], "aligned_block": 1}
    settings = {"samples": 64, "sampling_steps": 5}
    return Result(tuple(to_rows(found)), subject, settings, machine.fingerprint(), "dbench repa")


@pytest.fixture
def fast() -> Result:
    return result_of(PLAIN, FAST)


@pytest.fixture
def slow() -> Result:
    return result_of(FAST, PLAIN)


def test_the_rows(fast: Result) -> None:
    values = {row.name: row.value for row in fast.rows}
    assert len(values) == len(fast.rows)
    assert values[rows.SPEEDUP] == pytest.approx(2)
    assert values[rows.REACHED] == 100
    assert values[rows.FINAL] == pytest.approx(5)
    assert values["seed 4, steps of REPA to the plain model's final distance"] == pytest.approx(20)
    assert values["plain, linear probe at t = 0.25, best block"] == pytest.approx(76)
    assert values["REPA, CKNNA with the teacher at t = 0.5, best block"] == pytest.approx(0.2)
    (headline,) = (row for row in fast.rows if row.headline)
    assert (headline.name, headline.unit) == (rows.SPEEDUP, "x")


def test_who_is_slower_is_called_so(slow: Result) -> None:
    row = slow.row(rows.SPEEDUP)
    assert row.value == pytest.approx(0.5)
    assert "REPA needs more steps" in row.headline
    assert slow.row("seed 0, steps of REPA to the plain model's final distance").value is None
    assert plots.verdict(slow) == "2.00× more steps with REPA"
    assert plots.describe(slow).endswith("REPA reaches the plain model's final distance in 0 of 3.")
    assert plots.verdict(result_of(PLAIN, FAST)) == "2.00× fewer steps with REPA"
    assert plots.verdict(result_of(PLAIN, PLAIN)) == "As many steps with REPA"


@pytest.mark.parametrize("curves", [(PLAIN, FAST), (FAST, PLAIN), (PLAIN, PLAIN)])
def test_the_plots_are_svg_files_that_stand_alone(curves: tuple[tuple[tuple[float, ...], ...], ...]) -> None:
    charts = plots.draw(result_of(*curves))
    assert set(charts) == {"distances", "layers"}
    for chart in charts.values():
        svg = ElementTree.fromstring(chart.standalone())
        assert svg.tag == f"{SVG}svg"
        assert svg.find(f"{SVG}style") is not None
        inside = chart.standalone().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|@import|url\(", inside)
        width, height = float(svg.get("width") or 0), float(svg.get("height") or 0)
        for text in svg.iter(f"{SVG}text"):
            assert 0 <= float(text.get("x") or -1) <= width or text.text == "Fréchet distance to real digits"
            assert float(text.get("y") or 0) <= height


def test_what_the_plots_say(fast: Result) -> None:
    charts = {name: ElementTree.fromstring(chart.standalone()) for name, chart in plots.draw(fast).items()}
    said = {name: {text.text for text in svg.iter(f"{SVG}text")} for name, svg in charts.items()}
    assert {"plain SiT", "with REPA", "2.00×", "two halves of the real digits", "training step"} <= said["distances"]
    assert {"teacher", "pixels", "plain, t = 0.25", "REPA, t = 0.5", "aligned"} <= said["layers"]
    kinds = [path.get("class") for path in charts["distances"].iter(f"{SVG}path")]
    assert [kinds.count(kind) for kind in ("plain thin", "repa thin", "plain", "repa")] == [3, 3, 1, 1]


def test_the_gain_is_drawn_where_it_was_measured(fast: Result) -> None:
    svg = ElementTree.fromstring(plots.distances(fast).inline())
    gain = next(path.get("d") or "" for path in svg.iter("path") if path.get("class") == "gain")
    (left, level), (right, other) = (map(float, point.split()) for point in gain[1:].split("L"))
    assert level == other
    ticks = {text.text: float(text.get("x") or 0) for text in svg.iter("text")}
    assert (left, right) == pytest.approx((ticks["20"], ticks["40"]), abs=0.2)


def test_the_json_is_enough_to_draw_them_anew(fast: Result, tmp_path: Path) -> None:
    as_json, _ = record.write(fast, tmp_path)
    assert plots.draw(record.read(as_json)) == plots.draw(fast)


def test_the_section_of_a_report(slow: Result) -> None:
    markup = section(slow)
    assert markup.count("<svg") == 2
    assert "<style" not in markup
    assert "2.00× more steps with REPA to the same Fréchet distance" in markup
    assert "trained with the labels" in markup


def test_a_report_of_one_of_the_runs_has_the_section(fast: Result, model: Any, tmp_path: Path) -> None:
    of = [model.open().manifest.model.checkpoint["sha256"], "1" * 64]
    record.write(replace(fast, subject=fast.subject | {"checkpoint_sha256": of}), tmp_path)
    out = tmp_path / "page.html"
    key_numbers = write_report(out, Sources(model.bundle, results=(tmp_path,)), silent)
    text = out.read_text(encoding="utf-8")
    assert ("2.00×", fast.row(rows.SPEEDUP).headline) in {(key.number, key.meaning) for key in key_numbers}
    assert "What does REPA gain?" in text
    assert plots.distances(fast).inline() in text
    assert plots.layers(fast).inline() in text
    assert not re.search(r"https?:|@import|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
