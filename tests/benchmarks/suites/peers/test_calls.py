"""Ratios, shares and the choice of the best, from times that are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dbench.core.timing import Timing
from dbench.suites.peers.calls import Timed, call_rows
from dbench.suites.peers.contest import Entrant
from drun.run.parity import Comparison, compare

TIMES = {
    "theirs": (4.0, 4.0, 4.0), "slow": (8.0, 8.0, 8.0), "theirs bf16": (2.0, 2.0, 2.0),
    "ours": (2.0, 4.0, 2.0), "ours bf16": (1.0, 1.0, 1.0), "ours int8": (0.5, 0.5, 0.5), "ours wrong": (0.1, 0.1, 0.1),
    "ours-split bf16": (0.8, 0.8, 0.8),
}  # fmt: skip


def entrant(name: str) -> Entrant:
    precision = next((word for word in ("bf16", "int8") if word in name), "fp32")
    return Entrant(name, precision, name.startswith("ours"), 0.0)


def timed(times: Mapping[str, tuple[float, ...]]) -> Timed:
    rates = {"fp32": {"numpy": [2e12, 2e12, 2e12], "slow": [1e12]}, "bf16": {"PyTorch": [8e12, 8e12, 8e12]}}
    timings = {name: Timing(found) for name, found in times.items()}
    return Timed(8, [entrant(name) for name in times], timings, rates, flops=4_000_000_000)


def proof(name: str) -> Comparison:
    off = 1.0 if name == "ours wrong" else 0.0
    return compare(name, np.ones(3), np.ones(3) + off, 1e-5)


@pytest.fixture
def rows() -> dict[str, Any]:
    return {row.name: row for row in call_rows(timed(TIMES), {name: proof(name) for name in TIMES})}


def test_each_is_compared_with_the_best_peer_of_its_precision(rows: dict[str, Any]) -> None:
    ratio = rows["ours, times as fast as the best peer, batch 8"]
    assert (ratio.value, ratio.details["to"]) == (2.0, "theirs")
    assert ratio.details["interval_95"] == (1.0, 2.0)
    assert rows["slow, times as fast as the best peer, batch 8"].value == 0.5
    assert rows["ours bf16, times as fast as the best peer, batch 8"].details["to"] == "theirs bf16"
    assert "ours int8, times as fast as the best peer, batch 8" not in rows


def test_shares_are_of_the_fastest_product_of_the_precision(rows: dict[str, Any]) -> None:
    assert rows["theirs, share of the matrix rate, batch 8"].value == pytest.approx(100 * (4e9 / 4e-3) / 2e12)
    assert rows["ours bf16, share of the matrix rate, batch 8"].value == pytest.approx(100 * (4e9 / 1e-3) / 8e12)
    assert rows["theirs, call, batch 8"].details["gflop_s"] == pytest.approx(1000)
    assert rows["matrix rate in fp32, batch 8"].value == 2000


def test_the_answers(rows: dict[str, Any]) -> None:
    """The best of ours is not the one that computes something else."""
    assert rows["drun in fp32 to the best peer in fp32, batch 8"].details["of"] == "ours"
    assert rows["drun in bf16 to the best peer in fp32, batch 8"].value == 5.0
    assert rows["drun in int8 to drun in fp32, batch 8"].value == 4.0
    assert "farther from eager PyTorch" in rows["ours wrong, call, batch 8"].doubt
    assert rows["ours, call, batch 8"].doubt is None


def test_a_split_graph_is_compared_with_the_same_in_one_piece(rows: dict[str, Any]) -> None:
    split = rows["ours-split bf16, times as fast as in one graph, batch 8"]
    assert (split.value, split.details["to"]) == (1.25, "ours bf16")
    assert sum("in one graph" in name for name in rows) == 1


def test_later_rounds_are_joined_to_the_first(rows: dict[str, Any]) -> None:
    """Whoever could not be opened again is left out."""
    joined = timed(TIMES).joined(timed({"ours": (1.0, 1.0, 1.0), "theirs": (3.0, 3.0, 3.0)}))
    assert [one.name for one in joined.everyone] == ["theirs", "ours"]
    assert joined.timings["ours"].latencies_ms == (2.0, 4.0, 2.0, 1.0, 1.0, 1.0)
    assert joined.rates["fp32"]["numpy"] == [2e12] * 6
    assert joined.kernel("fp32") == "numpy"
