"""The tables of the README are those of the published results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbench import suites
from dbench.report import readme
from drun.errors import ConfigError, DataError

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_readme_is_what_the_command_writes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.with_tables(text, readme.tables(RESULTS)) == text, "run: dbench readme"


def test_every_published_result_of_a_suite_with_a_digest_is_there() -> None:
    tables = readme.tables(RESULTS)
    published = readme.published(RESULTS)
    digests = [suite for suite in suites.names() if hasattr(suites.load(suite), "digest")]
    for suite in digests:
        own = [(label, result) for label, result in published if result.suite == suite]
        if own:
            text = suites.load(suite).digest(own)
            assert text in tables
            assert all(f"`{label}`" in text for label, _ in own)
    assert {"latency", "peers"} <= {*digests}


def test_only_what_lies_between_the_marks_changes() -> None:
    old = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    new = readme.with_tables(old, "| new |")
    assert new == f"before\n{readme.BEGIN}\n\n| new |\n\n{readme.END}\nafter\n"
    assert readme.with_tables(new, "| new |") == new


@pytest.mark.parametrize(
    "text",
    ["nothing", readme.BEGIN, readme.END + readme.BEGIN, f"{readme.BEGIN}{readme.END}{readme.BEGIN}{readme.END}"],
)
def test_a_document_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="has no place for the tables, expected the lines '<!-- dbench readme"):
        readme.with_tables(text, "")


def test_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no results below"):
        readme.tables(tmp_path)


def test_the_command(dbench: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "cpu-2-cores" / "digits-unet", tmp_path / "mine" / "digits-unet")
    Path("NOTES.md").write_text(f"{readme.BEGIN}\n{readme.END}\n")
    done = dbench("readme", "NOTES.md", "--results", "mine")
    assert (done.code, done.out) == (0, "NOTES.md\n")
    text = Path("NOTES.md").read_text()
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `digits-unet`")]
    assert len(lines) >= 2
    assert {*lines} <= {*text.splitlines()}
    assert "aerial" not in text
    assert dbench("readme", "absent.md").code == 1
