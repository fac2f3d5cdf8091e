"""A new suite is one folder, a new backend one file: on copied packages both work everywhere, and nothing changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from copied import CopiedPackages, files_to_add

from drun import backends
from drun.run.opening import choose

pytestmark = pytest.mark.slow

SUITE = '''
"""How heavy is a bundle?"""

from dataclasses import dataclass
from pathlib import Path

from dbench.core.options import argument, option
{heading}

@dataclass(frozen=True)
class Settings:
    bundle: Path = argument("Bundle folder.")
    times: int = option(1, "Factor of the size.", least=1)


def measure(settings, report):
    """Weigh the files of a bundle.

    Only the first line is the help.
    """
    from dbench.core import machine, subject
    from dbench.core.record import Result, ResultRow
    from drun.bundle import reading

    bundle = reading.read(settings.bundle)
    size = settings.times * sum(path.stat().st_size for path in bundle.path.iterdir())
    row = ResultRow("weight", "all files", size / 1e6, "MB", headline="in all files")
    return Result((row,), subject.of_bundle(bundle), {{"times": settings.times}}, machine.fingerprint(), "test")
'''
SECTION = """
def summary(result):
    return f"In short: {result.row('all files').value:.1f} megabytes."


def section(result):
    from dbench.html import page

    return page.section("Weighed", page.paragraph(f"{result.row('all files').value:.3f} megabytes"))

"""
BACKEND = '''
"""ONNX Runtime once more, under another name."""

from drun.backends import ort


class Runtime(ort.Runtime):
    summary = "the same network, opened by a backend of its own"
    nicknames = {}

    def describe(self):
        return "Another on CPU"
'''
LATENCY = ["--steps", "2", "--repeats", "1", "--threads", "1", "--precision", "fp32"]


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything is called once, in one process, on packages with two new suites and a new backend."""
    folder = tmp_path_factory.mktemp("copied")
    packages = CopiedPackages(folder)
    for name, heading in (("weight", SECTION), ("plainweight", "")):
        text = SUITE.format(heading=heading).replace('"weight"', f'"{name}"')
        packages.add(f"benchmarks/dbench/suites/{name}/__init__.py", text)
    assert len(packages.added) == 2 * files_to_add("A suite")
    packages.add("runtimes/drun/backends/another.py", BACKEND)
    shutil.copytree(model.bundle, folder / "tiny")
    printed = {
        "help": [["dbench", "--help"], ["dbench", "weight", "--help"]],
        "backends": [["drun", "backends"]],
        "check": [["drun", "check", "tiny"], ["drun", "check", "tiny", "--all"]],
        "measure": [
            ["dbench", "weight", "tiny", "--times", "3"],
            ["dbench", "plainweight", "tiny"],
            ["dbench", "latency", "tiny", *LATENCY],
            ["dbench", "report", "page.html", "--bundle", "tiny"],
        ],
    }
    for name, commands in printed.items():
        (folder / f"{name}.txt").write_text(packages.run(*commands))
    return folder


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text()


def rows(folder: Path, suite: str) -> dict[str, dict[str, Any]]:
    (path,) = (folder / "results").glob(f"{suite}-tiny-*.json")
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_the_suite_is_a_command_with_the_options_of_its_settings(folder: Path) -> None:
    text = read(folder, "help.txt")
    assert "Weigh the files of a bundle." in text
    assert "Only the first line" not in text
    assert all(words in text for words in ("--times", "Factor of the size.", "--out", "Bundle folder."))


def test_the_suite_runs_and_its_section_stands_in_a_report(model: Any, folder: Path) -> None:
    size_mb = sum(path.stat().st_size for path in model.bundle.iterdir()) / 1e6
    assert rows(folder, "weight")["all files"]["value"] == pytest.approx(3 * size_mb)
    page = read(folder, "page.html")
    assert "<h2>Weighed</h2>" in page
    assert f"{3 * size_mb:.3f} megabytes" in page


def test_its_summary_stands_in_the_place_of_the_rows(folder: Path) -> None:
    text = read(folder, "measure.txt")
    assert text.count("In short: ") == 1
    before, _, after = text.partition("In short: ")
    assert "| all files |" not in before
    assert "| all files |" in after  # of the suite without a summary


def test_a_suite_without_a_section_has_its_table_there(folder: Path) -> None:
    page = read(folder, "page.html")
    assert "<h2>Plainweight</h2>" in page
    assert "all files" in page[page.index("<h2>Plainweight</h2>") :]


def test_the_backend_is_listed_checked_timed_and_proven(folder: Path) -> None:
    assert "another" in read(folder, "backends.txt")
    lines = [line for line in read(folder, "check.txt").splitlines() if line.startswith("another onnx-fp32 ")]
    assert len(lines) == 1
    assert "FAILED" not in lines[0]
    found = rows(folder, "latency")
    for name in ("ort", "another"):
        assert found[f"{name} onnx-fp32, call"]["value"] > 0
        assert found[f"{name} onnx-fp32, worst relative L2 of the golden calls"]["value"] < 1e-5
        assert found[f"{name} onnx-fp32, cold start to the first image, 2 steps"]["value"] > 0
        assert found[f"{name} onnx-fp32, weight files"]["value"] > 0
    assert found["another onnx-fp32, call"]["details"]["runs_on"] == "Another on CPU"
    assert "Another on CPU: another onnx-fp32" in read(folder, "page.html")


def test_nothing_that_was_there_changes(model: Any, folder: Path) -> None:
    """The backend that is taken unasked, the prover in the manifest, and which target has the headlines."""
    assert choose(model.open()).backend == backends.names()[0] == "ort"
    assert "parity with eager PyTorch holds on ONNX Runtime on CPU" in read(folder, "check.txt")
    assert read(folder, "tiny/manifest.json") == (model.bundle / "manifest.json").read_text()
    headlines = [row["headline"] for row in rows(folder, "latency").values() if row["headline"]]
    assert len(headlines) == 2
    assert all("ort onnx-fp32" in headline for headline in headlines)
