"""A line of the report's table for each target."""

from __future__ import annotations

from typing import Any

from dbench.core.record import Result, ResultRow
from dbench.suites.latency import table


def test_a_line_of_the_table_for_each_target(model: Any) -> None:
    rows = (
        ResultRow("latency", "a x, call", 1.5, "ms"),
        ResultRow("latency", "a x, loop of 7 steps", 12.0, "ms"),
        ResultRow("latency", "b y in bf16, call", 0.5, "ms", doubt="wrong"),
        ResultRow("latency", "b y in bf16, allowed relative L2", 6e-2, ""),
    )
    from dbench.core import machine

    settings = {"targets": ["a x", "b y in bf16"], "steps": 7}
    markup = table.speeds(Result(rows, {"name": "tiny"}, settings, machine.fingerprint(), ""))
    lines = [line.partition("</tr>")[0] for line in markup.split("<tr>")[2:4]]
    assert lines[0].startswith('<th scope="row">a x</th><td data-label="call ms">1.50</td>')
    assert '<td data-label="relative L2">–</td>' in lines[0]
    assert lines[1].startswith('<th scope="row">b y in bf16</th><td data-label="call ms">0.500 †</td>')
    assert '<td data-label="allowed">0.0600</td>' in lines[1]
