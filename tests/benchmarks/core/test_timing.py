"""Turns and percentiles, without a clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dbench.core import timing
from dbench.core.timing import Spread, Timing


def recorder(calls: list[str]) -> dict[str, Callable[[], object]]:
    return {name: lambda name=name: calls.append(name) for name in "ab"}


def test_candidates_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    timings = timing.interleave(recorder(calls), 3, warmup=2)
    assert "".join(calls) == "aabb" + "ababab"
    assert {name: len(times.latencies_ms) for name, times in timings.items()} == {"a": 3, "b": 3}


def test_the_lead_in_of_a_turn_is_not_timed() -> None:
    calls: list[str] = []
    timings = timing.interleave(recorder(calls), 2, warmup=0, lead_in=2)
    assert "".join(calls) == "aaabbb" * 2
    assert len(timings["a"].latencies_ms) == 2


def test_each_turn_rests_before_its_lead_in(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: calls.append(f"<{seconds:g}>"))
    timing.interleave(recorder(calls), 1, warmup=0, lead_in=1, pause_s=0.5)
    assert "".join(calls) == "<0.5>aa<0.5>bb"


def test_latencies_are_what_the_clock_says_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0

    def work(duration_ns: int) -> None:
        nonlocal now_ns
        now_ns += duration_ns

    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: now_ns)
    durations = iter([9, 9, 1_000_000, 3_000_000, 2_000_000])
    times = timing.interleave({"a": lambda: work(next(durations))}, 3, warmup=2)["a"]
    assert times.latencies_ms == (1.0, 3.0, 2.0)
    assert times.spread_ms.median == 2.0


def test_rounds_are_reported() -> None:
    rounds: list[int] = []
    timing.interleave(recorder([]), 3, on_round=rounds.append)
    assert rounds == [1, 2, 3]


def test_spread_interpolates() -> None:
    assert timing.spread(range(11)) == Spread(5, 1, 9)
    assert timing.spread([10, 0]) == Spread(5, 1, 9)
    assert timing.spread([4]) == Spread(4, 4, 4)


def test_ratios_and_overhead() -> None:
    slow, fast = Timing((2.0, 40.0, 6.0)), Timing((1.0, 10.0, 2.0))
    assert timing.ratio_of_medians(slow, fast) == 3
    assert timing.pairwise_ratio(slow, fast).median == 3
    assert timing.overhead_percent(slow, fast).median == 200
    assert timing.overhead_percent(fast, fast) == Spread(0, 0, 0)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        timing.pairwise_ratio(Timing((1.0,)), Timing((1.0, 2.0)))


def test_the_interval_of_a_median_holds_it_and_narrows_with_the_number_of_values() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.normal(10, 1, 15), rng.normal(10, 1, 600)
    wide, narrow = timing.median_interval(few), timing.median_interval(many)
    assert wide == timing.median_interval(few)
    assert wide[0] <= np.median(few) <= wide[1]
    # The standard error of the median of N normal values is sqrt(pi / 2 N), and 95 % are 1.96 of it either side.
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * (np.pi / 2 / 600) ** 0.5, rel=0.25)
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    assert timing.median_interval([3.0]) == (3.0, 3.0)


def test_ratios_are_of_the_pairs_of_a_round() -> None:
    assert timing.ratios(Timing((2.0, 9.0)), Timing((1.0, 3.0))) == [2.0, 3.0]


def test_later_calls_follow_the_first() -> None:
    assert timing.Timing((1.0, 2.0)).then(timing.Timing((3.0,))).latencies_ms == (1.0, 2.0, 3.0)
