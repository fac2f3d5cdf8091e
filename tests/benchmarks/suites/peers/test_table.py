"""The tables: for a terminal, a report and the README."""

from __future__ import annotations

from dataclasses import replace

from dbench.core.record import Result, ResultRow
from dbench.suites.peers import table


def test_the_summary_has_a_line_for_everyone_the_fastest_first(result: Result) -> None:
    text = table.summary(result)
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**fp32, calls of 1 image**",
        "**fp32, calls of 2 images**",
    ]
    for batch in (1, 2):
        rows = [row for row in result.rows if "gflop_s" in row.details and row.details["batch"] == batch]
        names = [row.details["name"] for row in sorted(rows, key=lambda row: row.value or 0)]
        part = text.split("**")[2 * batch]
        assert [line.split(" | ")[0].strip("| ") for line in part.splitlines()[4:-1] if line][: len(names)] == names
    assert "- drun in fp32 to a plain loop, an image of 3 guided steps: " in text
    assert "- matrix rate in fp32, batch 1: " in text
    assert "- drun in fp32 to the best peer in fp32, batch 2: " in text
    assert "-split, times as fast as in one graph, batch 2: " in text
    assert "cold start to the first image, 2 steps: " in text
    assert "random weights" in text


def test_who_is_left_out_is_said_with_the_reason(result: Result) -> None:
    row = ResultRow("peers", "diffusers, left out", None, "", details={"reason": "it has no such network"})
    text = table.summary(replace(result, rows=(*result.rows, row)))
    assert text.splitlines()[-1] == "- diffusers, left out: it has no such network"


def test_the_section_holds_the_tables_and_all_rows(result: Result) -> None:
    markup = table.section(result)
    assert "<h2>Peers</h2>" in markup
    assert markup.count("<table>") == 3
    assert '<th scope="row">plain OpenVINO, fp32</th><td data-label="ms a call (95 %)">' in markup


def test_the_readme_has_a_line_for_each_batch_and_precision(result: Result) -> None:
    lines = table.digest([("tiny", result)]).splitlines()
    assert lines[0].startswith("`dbench peers`: ")
    assert [line.split(" | ")[:2] for line in lines[4:6]] == [["| `tiny`, 1", "fp32"], ["| `tiny`, 2", "fp32"]]
    assert lines[6:9] == ["", "Images end to end, by `drun` and by a loop of plain OpenVINO calls:", ""]
    assert lines[9].startswith("- `tiny`, drun in fp32 to a plain loop, an image of 3 guided steps: ")
    assert lines[4].endswith(f"| {result.machine.processor}, 1 core |")
