"""Rows survive the disk, and unknown stays unknown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dbench import suites
from dbench.core import machine, record
from dbench.core.record import Result, ResultRow
from dbench.core.timing import Spread
from drun.errors import DataError, UserError

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


@pytest.fixture
def result() -> Result:
    rows = (
        record.spread_row("latency", "ort, call", Spread(1.5, 1.25, 1.75), "ms", headline="a", details={"batch": 1}),
        ResultRow("latency", "peak memory", None, "MB"),
    )
    subject = {"name": "tiny", "bundle_sha256": "ab" * 32}
    return Result(rows, subject, {"repeats": 2}, machine.fingerprint(2), "dbench latency tiny")


def test_json_out_and_in(result: Result, tmp_path: Path) -> None:
    as_json, as_markdown = record.write(result, tmp_path / "new")
    assert (as_json.name, as_markdown.name) == (f"{result.file_name}.json", f"{result.file_name}.md")
    assert re.fullmatch(r"latency-tiny-[0-9a-f]{8}", result.file_name)
    assert record.read(as_json) == result
    assert json.loads(as_json.read_text())["rows"][1]["value"] is None
    assert sorted(as_json.parent.iterdir()) == [as_json, as_markdown]


def test_another_subject_or_setting_has_files_of_its_own(result: Result, tmp_path: Path) -> None:
    """A second measurement, of something else or with other settings, once overwrote the first."""
    other = replace(result, subject=result.subject | {"bundle_sha256": "cd" * 32})
    larger = replace(result, settings=result.settings | {"batch": 8})
    paths = {path for each in (result, other, larger, result) for path in record.write(each, tmp_path)}
    assert len(paths) == 6
    assert record.read(tmp_path / f"{other.file_name}.json") == other


def test_what_is_not_finite_is_null(result: Result) -> None:
    rows = (ResultRow("latency", "a", float("nan"), "ms", p90=float("inf"), details={"all": [float("-inf"), 1.0]}),)
    line = record.to_line(Result(rows, {}, {}, result.machine, ""))
    row = json.loads(line)["rows"][0]
    assert (row["value"], row["p90"], row["details"]) == (None, None, {"all": [None, 1.0]})
    assert "\n" not in line


def test_markdown_is_a_table_with_its_conditions(result: Result) -> None:
    lines = record.to_markdown(result).splitlines()
    assert "| ort, call | 1.50 | 1.25 | 1.75 | ms |" in lines
    assert "| peak memory | – |  |  | MB |" in lines
    assert record.MARK not in "".join(lines[:5])
    for condition in ("processor", "threads: 2", "versions: python", "commit", "command: `dbench latency tiny`"):
        assert any(line.startswith(f"- {condition}") for line in lines), condition


@pytest.mark.parametrize(
    "text",
    ["{}", '{"schema_version": 2, "rows": []}', '{"schema_version": 2, "rows": [{}]}'],
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a result of this dbench"):
        record.read(path)


def test_a_subject_without_a_name(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(result.to_dict() | {"subject": {}}))
    with pytest.raises(DataError, match="not a result of this dbench: its subject has no name"):
        record.read(path)


@pytest.mark.parametrize("version", [1, 3, "2", True, None])
def test_another_schema_is_refused_in_one_sentence(result: Result, tmp_path: Path, version: object) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(result.to_dict() | {"schema_version": version}))
    with pytest.raises(DataError, match=r"latency.json' holds results of another schema: got version .+, expected 2;"):
        record.read(path)


def test_what_was_measured_for_the_readme_is_of_this_schema() -> None:
    paths = sorted(RESULTS.rglob("*.json"))
    assert len(paths) >= 5
    for path in paths:
        result = record.read(path)
        assert path.stem == result.file_name
        assert path.with_suffix(".md").read_text(encoding="utf-8") == record.to_markdown(result, suites.summary(result))


# ---- what is to be trusted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ResultRow("s", "overhead", 2.99, "%", -13.9, 22.7), "its spread crosses zero"),
        (ResultRow("s", "overhead", -2.99, "%", -4.0, -2.4), "its spread is wider than half of it"),
        (ResultRow("s", "call", 2.0, "ms", 1.5, 2.5), ""),
        (ResultRow("s", "call", 2.0, "ms", 1.5, 2.51), "its spread is wider than half of it"),
        (ResultRow("s", "ratio", 6.3, "x"), ""),
        (ResultRow("s", "nothing", 0.0, "ms", 0.0, 0.0), ""),
        (ResultRow("s", "unknown", None, "ms"), ""),
    ],
)
def test_a_spread_that_swallows_its_median(row: ResultRow, reason: str) -> None:
    assert record.doubt(row, machine.fingerprint()) == reason


def test_other_work_disturbs_times_and_nothing_else() -> None:
    here = machine.fingerprint(2)
    shared = replace(here, num_processors=2, other_processors=1.0)
    assert shared.was_shared
    reason = "measured beside too much other work"
    for unit in ("ms", "s", "1/s", "x", "%"):
        assert record.doubt(ResultRow("s", "a", 1.0, unit), shared) == reason
    for unit in ("MB", "", "squared pixel values", "TFLOP"):
        assert record.doubt(ResultRow("s", "a", 1.0, unit), shared) == ""
    assert record.doubt(ResultRow("s", "a", 1.0, "ms", -1, 3), shared) == f"{reason}, its spread crosses zero"


def test_what_says_little_is_marked_in_the_table_and_explained(result: Result) -> None:
    wide = ResultRow("latency", "overhead", 2.99, "%", -13.9, 22.7)
    text = record.to_markdown(replace(result, rows=(wide, *result.rows)))
    assert "| overhead | 2.99 † | -13.9 | 22.7 | % |" in text
    assert text.count(record.LEGEND) == 1


def test_a_suite_may_judge_its_rows_itself(result: Result) -> None:
    """A share around zero may be what one hopes for, and a steady figure may still say little."""
    around = ResultRow("s", "a", 0.1, "%", -1, 1, doubt="")
    steady = ResultRow("s", "b", 1.0, "", 1, 1, doubt="there are few images")
    text = record.to_markdown(replace(result, rows=(around, steady)))
    assert "| a | 0.100 | -1.00 | 1.00 | % |" in text
    assert "| b | 1.00 † | 1.00 | 1.00 |  |" in text
    assert f"{record.LEGEND}; or there are few images\n" in text
    disturbed = replace(result.machine, num_processors=2, other_processors=1.0)
    assert record.doubt(around, disturbed) == "measured beside too much other work"


def test_yes_and_no(result: Result, tmp_path: Path) -> None:
    rows = (ResultRow("latency", "imports torch", False, ""), ResultRow("latency", "passed", True, ""))
    as_json, as_markdown = record.write(replace(result, rows=rows), tmp_path)
    assert record.read(as_json).rows == rows
    assert "| imports torch | no |  |  |  |\n| passed | yes |  |  |  |" in as_markdown.read_text(encoding="utf-8")


# ---- rows and numbers -----------------------------------------------------------------------------------


def test_a_row_by_name(result: Result) -> None:
    assert result.row("ort, call").value == 1.5
    with pytest.raises(UserError, match="lacks 'cold start'"):
        result.row("cold start")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0"), (1.0, "1.00"), (99.96, "100"), (12345.6, "12,346"), (0.05, "0.0500"),
     (2e-7, "2e-07"), (-3.14159, "-3.14"), (999.4, "999")],
)  # fmt: skip
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert record.number(value) == text


def test_a_command_is_shown_without_absolute_paths() -> None:
    arguments = ["/opt/venv/bin/dbench", "latency", "/home/someone/bundles/digits", "--out", "out/results", "-n", "3"]
    assert record.shown_command(arguments) == "dbench latency digits --out out/results -n 3"
    assert record.shown_command([]) == ""
    assert record.shown_command(["dbench", "--out=/home/someone/out", "../someone/out", "--set", "a=b"]) == (
        "dbench --out=out out --set a=b"
    )


def test_a_summary_takes_the_place_of_the_rows(result: Result, tmp_path: Path) -> None:
    text = record.write(result, tmp_path, "In short: fast.")[1].read_text()
    assert text == record.to_markdown(result, "In short: fast.")
    assert text.startswith("# latency\n\nIn short: fast.\n\n- processor: ")
    assert "| what |" not in text


def test_a_table_aligns_numbers_to_the_right() -> None:
    lines = record.table(("who", "ms", "where"), [["a", "1", "here"]], texts=(0, 2)).splitlines()
    assert lines == ["| who | ms | where |", "|---|--:|---|", "| a | 1 | here |"]


def test_where_a_result_comes_from_in_a_few_words(result: Result) -> None:
    assert record.where(result) == f"{result.machine.processor}, 2 cores"
    assert record.where(replace(result, settings={"device": "cuda", "runs_on": "PyTorch on X"})) == "PyTorch on X"
    assert record.where(replace(result, settings={"device": "cuda"})) == "cuda"
