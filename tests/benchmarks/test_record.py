"""Rows survive the disk, and unknown stays unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbench.core import machine, record
from dbench.core.record import Result, Row
from dbench.core.timing import Spread
from drun.errors import UserError


@pytest.fixture
def result() -> Result:
    rows = (
        record.spread_row("latency", "ort, call", Spread(1.5, 1, 2.25), "ms", headline="a call", details={"batch": 1}),
        Row("latency", "peak memory", None, "MB"),
    )
    return Result(rows, {"bundle": "tiny"}, {"repeats": 2}, machine.fingerprint(2), "dbench latency tiny")


def test_json_out_and_in(result: Result, tmp_path: Path) -> None:
    as_json, as_markdown = record.write(result, tmp_path / "new")
    assert (as_json.name, as_markdown.name) == ("latency.json", "latency.md")
    assert record.read(as_json) == result
    assert json.loads(as_json.read_text())["rows"][1]["value"] is None
    assert sorted(path.name for path in as_json.parent.iterdir()) == ["latency.json", "latency.md"]


def test_what_is_not_finite_is_null(result: Result) -> None:
    rows = (Row("latency", "a", float("nan"), "ms", p90=float("inf"), details={"all": [float("-inf"), 1.0]}),)
    line = record.to_line(Result(rows, {}, {}, result.machine, ""))
    row = json.loads(line)["rows"][0]
    assert (row["value"], row["p90"], row["details"]) == (None, None, {"all": [None, 1.0]})
    assert "\n" not in line


def test_markdown_is_a_table_with_its_conditions(result: Result) -> None:
    lines = record.to_markdown(result).splitlines()
    assert "| ort, call | 1.50 | 1.00 | 2.25 | ms |" in lines
    assert "| peak memory | – | – | – | MB |" in lines
    for condition in ("processor", "threads: 2", "versions: python", "commit", "command: `dbench latency tiny`"):
        assert any(line.startswith(f"- {condition}") for line in lines), condition


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"schema_version": 1, "rows": []}',
        '{"schema_version": 99, "rows": [1]}',
        '{"schema_version": 1, "rows": [{}]}',
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a result of this dbench"):
        record.read(path)


def test_a_row_by_name(result: Result) -> None:
    assert result.row("ort, call").value == 1.5
    with pytest.raises(UserError, match="lack 'cold start'"):
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
