"""The candidates in a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbench.core import machine
from dbench.core.record import Result
from dbench.core.timing import Timing
from dbench.suites.graphs import table
from dbench.suites.graphs.rows import DEFAULT, Measured, rows_of
from drun.run import parity

TIMES = Timing(tuple(float(value) for value in range(20, 30)))
#: candidate -> its time divided by the default's at batches 1 and 8, and its relative error
CANDIDATES = {
    DEFAULT: (1.0, 1.0, 1e-6), "fast": (0.8, 0.5, 1e-6), "faster": (0.7, 0.4, 1e-6), "wrong": (0.5, 0.5, 1e-2),
    "slow": (0.9, 1.2, 1e-6),
}  # fmt: skip


def measured(name: str, batch: int, factor: float, error: float) -> Measured:
    own = Timing(tuple(value * factor for value in TIMES.latencies_ms))
    proof = parity.compare("", np.ones(4), np.ones(4) * (1 + error), 1e-5)
    return Measured(name, batch, TIMES, own, proof, 0.25, 3_000_000)


@pytest.fixture
def result() -> Result:
    rows = []
    for name, (one, eight, error) in CANDIDATES.items():
        for batch, factor in ((1, one), (8, eight)):
            rows += rows_of(measured(name, batch, factor, error), f"is {name}")
    settings = {
        "batches": [1, 8],
        "candidates": [name for name in CANDIDATES if name != DEFAULT],
        "left_out": {"no": "why"},
    }
    return Result(tuple(rows), {"name": "tiny"}, settings, machine.fingerprint(), "")


def test_a_line_for_each_candidate(result: Result) -> None:
    line = table.compared(result).split('<th scope="row">fast</th>')[1].partition("</tr>")[0]
    assert '<td data-label="x (95 %), batch 8">2.000 (2.000 to 2.000)</td>' in line
    assert '<td data-label="opening s">0.250</td><td data-label="files MB">3.00</td>' in line
    assert "is faster" in table.compared(result)


def test_the_same_in_markdown(result: Result) -> None:
    head, rule, *lines = table.markdown(result).partition("\n\n")[0].splitlines()
    assert head.count("|") == rule.count("|")
    assert [line.split(" | ")[0] for line in lines] == [f"| {name}" for name in CANDIDATES]
    assert lines[1].startswith("| fast | 19.6 | 1.250 (1.250 to 1.250) | 12.2 | 2.000 (2.000 to 2.000) | ")
    assert all(line.count("|") == head.count("|") for line in lines)
    assert "- `fast`: is fast" in table.markdown(result)


@pytest.mark.parametrize("words", [table.compared, table.markdown])
def test_what_is_left_out_is_named(result: Result, words: Any) -> None:
    assert "Left out, no: why" in words(result)


def test_the_verdict_names_what_is_right_and_faster_at_every_batch(result: Result) -> None:
    assert table.verdict(result).endswith("beyond the noise at every batch: faster, fast.")


def test_the_verdict_without_a_winner(result: Result) -> None:
    rows = tuple(row for row in result.rows if row.name.startswith(("default", "slow", "wrong")))
    settings = result.settings | {"candidates": ["slow", "wrong"]}
    alone = Result(rows, result.subject, settings, result.machine, "")
    assert table.verdict(alone).startswith("No candidate within the float32 tolerance is faster")
