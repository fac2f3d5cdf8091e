"""The page stands alone: valid HTML, no scripts, no requests, every number from its source, nothing off the screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbench.core import machine, record, subject
from dbench.core.record import Result, ResultRow
from dbench.html import page
from dbench.html.page import KeyNumber
from dbench.report import Sources, write_report
from drun.bundle import reading as bundles
from drun.console import silent
from drun.run.opening import candidates

VOID = {"meta", "img", "br", "hr", "link"}


class Checker(HTMLParser):
    """Collects tags and text; fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.headings: list[str] = []

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
            if self.open[-1] in ("h1", "h2"):
                self.headings.append(text)


def parse(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def said_by(path: Path) -> str:
    return " ".join(parse(path).text).replace("\u00a0", " ")


def speed_of(model: Any, rows: tuple[ResultRow, ...]) -> Result:
    settings = {"backends": ["ort"], "checkpoint": None, "compile": False}
    return Result(rows, subject.of_bundle(model.open()), settings, machine.fingerprint(2), "dbench latency tiny")


SPEED = (
    ResultRow("latency", "ort, call", 1.234, "ms", 1.1, 1.5),
    ResultRow("latency", "eager torch / ort, pairwise", 4.56, "x", 4.4, 4.7, headline="faster"),
    ResultRow("latency", "ort, loop overhead", 2.99, "%", -13.9, 22.7, headline="loop overhead"),
    ResultRow("latency", "ort, drun imports torch", False, ""),
    ResultRow("latency", "a < b & c", None, "MB"),
)


@pytest.fixture
def sources(model: Any, tmp_path: Path) -> Sources:
    record.write(speed_of(model, SPEED), tmp_path)
    return Sources(model.bundle, model.run, model.samples, (tmp_path,), model.animation)


def test_the_command_writes_a_page_that_stands_alone(sources: Sources, dbench: Callable[..., Any]) -> None:
    done = dbench(
        "report", "new/page.html", "--run", sources.run, "--bundle", sources.bundle, "--samples", sources.samples,
        "--results", sources.results[0], "--animation", sources.animation,
    )  # fmt: skip
    assert (done.code, done.out.splitlines()[-1]) == (0, "new/page.html")
    assert "2.99 %  loop overhead; p10 to p90: -13.9 to 22.7; † its spread crosses zero" in done.out
    shown = ["--bundle", sources.bundle, "--results", sources.results[0], "--json", "--quiet"]
    document = json.loads(dbench("report", "second.html", *shown).out)
    assert document["page"] == "second.html"
    assert any(number["number"] == "2.99 %" for number in document["key_numbers"])
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
    assert str(sources.bundle.parent) not in text


def test_the_page_holds_the_numbers(sources: Sources, tmp_path: Path) -> None:
    key_numbers = write_report(tmp_path / "page.html", sources, silent)
    said = said_by(tmp_path / "page.html")
    for expected in ("1.23", "4.56×", "a < b & c", "dbench latency tiny", "compile no", "ort, drun imports torch no"):
        assert expected in re.sub(r"\s+", " ", said), expected
    proven = candidates(bundles.read(sources.bundle))
    checks = json.loads((sources.bundle / "manifest.json").read_text())["artifacts"][0]["parity"]["checks"]
    total = checks * len(proven)
    assert f"{total} of {total}" in {key.number for key in key_numbers}
    assert said.count("trajectory, batch") >= 2 * len(proven)
    assert not re.search(r"\b(True|False|NO)\b", said)


def test_a_key_number_shows_its_spread_and_what_speaks_against_it(sources: Sources, tmp_path: Path) -> None:
    key_numbers = write_report(tmp_path / "page.html", sources, silent)
    assert KeyNumber("4.56×", "faster", "4.40 to 4.70") in key_numbers
    assert KeyNumber("2.99 %", "loop overhead", "-13.9 to 22.7", "its spread crosses zero") in key_numbers
    said = said_by(tmp_path / "page.html")
    assert said.count("2.99 %  †".replace("  ", " ")) == 1  # at the head
    assert said.count("2.99 †") == 1  # in the table
    assert "4.56 †" not in said
    assert record.LEGEND in said


def test_a_bundle_alone(model: Any, dbench: Callable[..., Any]) -> None:
    done = dbench("report", "page.html", "--bundle", model.bundle)
    assert done.code == 0, done.err
    said = said_by(Path("page.html"))
    assert "tiny: exported to ONNX" in said
    assert "trained in PyTorch on 1,797 images of 'digits', 16x16 grey, exported with its EMA weights" in said
    assert "Parity with eager PyTorch" in said
    for absent in ("Training", "Samples", "Latency"):
        assert absent not in parse(Path("page.html")).headings
    assert dbench("report", "page.html").code == 2  # nothing to report on


def test_results_lie_in_results_unless_said_otherwise(model: Any, dbench: Callable[..., Any]) -> None:
    record.write(speed_of(model, SPEED), Path("results"))
    assert "4.56×" in dbench("report", "page.html", "--bundle", model.bundle).out


def test_the_captions_say_how_the_samples_were_drawn(sources: Sources, tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", sources, silent)
    how = "Drawn: 6 samples, seed 0, 3 ddpm steps, no guidance, no classes, EMA weights of step 2"
    assert how in said_by(tmp_path / "page.html")


def test_two_results_of_a_suite_are_told_apart(sources: Sources, model: Any, tmp_path: Path) -> None:
    other = speed_of(model, SPEED)
    record.write(replace(other, subject=other.subject | {"name": "elsewhere"}), tmp_path)
    meanings = [key.meaning for key in write_report(tmp_path / "page.html", sources, silent)]
    assert {"faster (tiny)", "faster (elsewhere)"} <= set(meanings)


def test_settings_tell_results_of_one_subject_apart(sources: Sources, model: Any, tmp_path: Path) -> None:
    one = speed_of(model, SPEED)
    record.write(replace(one, settings=one.settings | {"batch": 8}), tmp_path)
    meanings = [key.meaning for key in write_report(tmp_path / "page.html", sources, silent)]
    assert {"faster (tiny)", "faster (tiny, batch 8)"} <= set(meanings)


def test_samples_are_compared_first_with_what_their_model_learned_from(
    model: Any, tmp_path: Path, dbench: Callable[..., Any]
) -> None:
    np.save("blots.npy", np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8))
    shutil.copytree(model.samples, "again")
    for folder, reference in ((model.samples, "blots.npy"), (model.samples, "digits"), ("again", "digits")):
        assert dbench("quality", folder, "--reference", reference).code == 0
    assert dbench("report", "page.html", "--bundle", model.bundle).code == 0
    page = parse(Path("page.html"))
    first, *others = (heading for heading in page.headings if heading.startswith(("How real", "Compared")))
    assert (first, others) == ("How real are they?", ["How real are they?", "Compared with 'blots.npy'"])
    said = said_by(Path("page.html"))
    how = "seed 0, 3 ddpm steps, no guidance, no classes, EMA weights, ort in fp32"
    assert [said.count(f"6 samples of '{name}' are judged: {how}.") for name in ("again", "samples")] == [1, 2]
    assert "from the 1,797 training images of 'digits'" in said
    assert said.count("Left: a sample, the nearest to a real image in the first row") == 3
    next(Path("results").glob("quality-again-*.png")).unlink()
    assert dbench("report", "page.html", "--bundle", model.bundle).code == 0
    assert said_by(Path("page.html")).count("Left: a sample") == 2


def test_a_report_needs_no_torch(sources: Sources, tmp_path: Path) -> None:
    """A device makes the report of what was measured on it."""
    code = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
from pathlib import Path
from dbench import suites
from dbench.report import Sources, write_report
from drun.console import silent
for name in suites.names():
    assert callable(suites.load(name).measure)
out, bundle, run, samples, results, animation = map(Path, sys.argv[1:])
write_report(out, Sources(bundle, run, samples, (results,), animation), silent)
"""
    paths = (tmp_path / "page.html", sources.bundle, sources.run, sources.samples, *sources.results, sources.animation)
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Real: 6 of the training images" in said_by(tmp_path / "page.html")


def test_real_images_that_are_gone_are_left_out(
    sources: Sources, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(model.run, run)
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["source"] = str(tmp_path / "gone")
    (run / "recipe.json").write_text(json.dumps(recipe))
    write_report(tmp_path / "page.html", replace(sources, run=run), silent)
    assert "the report shows no real images: " in capsys.readouterr().err
    assert "Real:" not in said_by(tmp_path / "page.html")


def test_text_is_escaped() -> None:
    keys = page.key_numbers([KeyNumber("<1>", "<n>", "<s>", "<d>")])
    markup = page.document("<t>", page.section("a < b", page.paragraph("x & y"), keys))
    assert "<t>" not in markup
    assert "a &lt; b" in markup
    assert "x &amp; y" in markup
    assert all(f"&lt;{each}&gt;" in markup for each in "1nsd")


# ---- small screens --------------------------------------------------------------------------------------


def test_a_phone_stacks_the_cells_of_a_row_behind_their_labels() -> None:
    markup = page.table(("what", "value", "unit"), [("a", "1", ""), ("b", "–", "ms")], "numbers")
    assert '<td data-label="value">1</td><td data-label="unit"></td>' in markup
    assert '<td data-label="value">–</td><td data-label="unit">ms</td>' in markup
    style = re.sub(r"\s+", " ", page.document("", ""))
    assert "td::before { content: attr(data-label)" in style
    assert "td:empty { display: none; }" in style


PROBE = """
<iframe id="frame" width="{width}" height="900" srcdoc="{page}"></iframe><pre id="found"></pre>
<script>
frame.onload = () => {{
  const inner = frame.contentDocument;
  const wide = [...inner.querySelectorAll("body *")].filter(
    each => !each.closest(".wide > .chart") && each.getBoundingClientRect().right > {width} + 0.5);
  found.textContent = "off screen: " + wide.map(each => each.tagName + "." + each.className).join(" ")
    + "; scrolls to " + inner.documentElement.scrollWidth + ";";
}};
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
@pytest.mark.parametrize("width", [320, 375, 1280])
def test_nothing_is_off_the_screen(sources: Sources, tmp_path: Path, width: int) -> None:
    write_report(tmp_path / "page.html", sources, silent)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "probe.html").write_text(PROBE.format(width=width, page=html.escape(text)), encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000")
    profile = f"--user-data-dir={tmp_path / 'browser'}"
    command = ["chromium", *options, profile, "--dump-dom", str(tmp_path / "probe.html")]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"off screen: ; scrolls to {width};" in dom
