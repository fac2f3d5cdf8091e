"""The page stands alone: valid HTML, no scripts, no requests, every number from its source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench import report
from dbench.core import machine, record
from dbench.core.record import Result, Row
from dbench.html import page
from dbench.report import Sources, write_report
from dbench.suites import quality
from drun.console import silent
from drun.errors import DataError, UserError

VOID = {"meta", "img", "br", "hr", "link"}


class Checker(HTMLParser):
    """Collects tags and text; fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(text)


def parse(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def said_by(path: Path) -> str:
    return " ".join(parse(path).text).replace("\u00a0", " ")


@pytest.fixture
def sources(model: Any, tmp_path: Path) -> Sources:
    here = machine.fingerprint(2)
    distances = {quality.SAMPLES: 0.35, quality.HALVES: 0.0712, quality.NOISE: 9.31, quality.POSITION: 3.02}
    rows = tuple(Row("quality", name, value, "%" if value == 3.02 else "") for name, value in distances.items())
    subject = {"num_samples": 6, "num_real": 1797}
    record.write(Result(rows, subject, {}, here, "dbench quality samples"), tmp_path)
    speed = (
        Row("latency", "ort, call", 1.234, "ms", 1.1, 1.9),
        Row("latency", "eager torch / ort, of medians", 4.56, "x", headline="faster"),
        Row("latency", "a < b & c", None, "MB"),
    )
    record.write(Result(speed, {}, {"backends": ("ort",), "checkpoint": None}, here, "dbench latency tiny"), tmp_path)
    return Sources(model.run, model.bundle, model.samples, tmp_path, model.animation)


def test_the_command_writes_a_page_that_stands_alone(sources: Sources, dbench: Callable[..., Any]) -> None:
    done = dbench(
        "report", "new/page.html", "--run", sources.run, "--bundle", sources.bundle, "--samples", sources.samples,
        "--results", sources.results, "--animation", sources.animation,
    )  # fmt: skip
    assert (done.code, done.out.splitlines()[-1]) == (0, "new/page.html")
    path = Path("new/page.html")
    text, parsed = path.read_text(encoding="utf-8"), parse(path)
    assert "<script" not in text
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text))
    pictures = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert len(pictures) == 3
    assert all((picture["src"] or "").startswith("data:image/") and picture["alt"] for picture in pictures)
    assert sum((picture["src"] or "").startswith("data:image/webp") for picture in pictures) == 1
    assert sum(tag == "h1" for tag, _ in parsed.tags) == 1
    assert any(tag == "svg" for tag, _ in parsed.tags)
    assert str(sources.run.parent) not in text


def test_the_page_holds_the_numbers(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write_report(out, sources, silent)
    said = said_by(out)
    for expected in ("1.23", "4.56×", "a < b & c", "0.350", "9.31", "1,797 real digits", "dbench latency tiny"):
        assert expected in said, expected
    assert "lie 3.02 % of the way from real to noise, within the goal of at most 10 %" in said
    checks = len(record_of_parity(sources))
    assert f"{checks} of {checks}" in said
    assert said.count("trajectory, batch") == 2


def record_of_parity(sources: Sources) -> range:
    manifest = json.loads((sources.bundle / "manifest.json").read_text())
    return range(manifest["artifacts"][0]["parity"]["checks"])


def test_samples_far_from_real_are_called_so(sources: Sources, tmp_path: Path) -> None:
    path = sources.results / "quality.json"
    fields = json.loads(path.read_text())
    fields["rows"][-1]["value"] = 23.4
    path.write_text(json.dumps(fields))
    write_report(tmp_path / "page.html", sources, silent)
    said = said_by(tmp_path / "page.html")
    assert "lie 23.4 % of the way from real to noise, outside the goal of at most 10 %" in said


def test_a_model_of_other_images_has_no_quality_and_no_film(sources: Sources, tmp_path: Path) -> None:
    (sources.results / "quality.json").unlink()
    write_report(tmp_path / "page.html", replace(sources, animation=None), silent)
    said = said_by(tmp_path / "page.html")
    assert "How real are they?" not in said
    assert "From noise to image" not in said


def test_real_images_come_from_where_the_recipe_says(tmp_path: Path) -> None:
    stack = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    np.savez(tmp_path / "a.npz", images=stack)
    recipe = {"data": {"source": str(tmp_path / "a.npz"), "image_size": 4}, "model": {"channels": 1}}
    real = report.read_real(recipe, 3)
    assert real.shape == (3, 4, 4, 1)
    assert all(any((image[..., 0] == one).all() for one in stack) for image in real)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("run", "recipe.json"), ("samples", "run.json"), ("results", "no results in"), ("animation", "film.webp")],
)
def test_what_is_missing_is_named(sources: Sources, tmp_path: Path, missing: str, message: str) -> None:
    nowhere = tmp_path / "nowhere" / ("film.webp" if missing == "animation" else "")
    with pytest.raises(DataError, match=message):
        write_report(tmp_path / "page.html", replace(sources, **{missing: nowhere}), silent)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n", '{"step": 1, "loss": NaN}\n', '{"step": 1, "loss": 0}\n'])
def test_a_log_without_losses(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"log\.jsonl"):
        report.read_losses(tmp_path / "log.jsonl")


def test_broken_results(sources: Sources, tmp_path: Path) -> None:
    (sources.results / "latency.json").write_text("{")
    with pytest.raises(UserError, match=r"latency\.json"):
        write_report(tmp_path / "page.html", sources, silent)


def test_text_is_escaped() -> None:
    markup = page.document("<t>", page.section("a < b", page.paragraph("x & y"), page.key_numbers([("<1>", "<n>")])))
    assert "<t>" not in markup
    assert "a &lt; b" in markup
    assert "x &amp; y" in markup
    assert "&lt;1&gt;" in markup
