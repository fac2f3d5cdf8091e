"""Measures the time that a whole sampling adds to its network calls."""

from __future__ import annotations

from collections.abc import Sequence

from dbench.core import timing
from dbench.core.inputs import Inputs, example
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Call
from dbench.suites.latency.calls import timing_row
from dbench.suites.latency.settings import SUITE, LatencySettings
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.run.opening import Opened
from drun.run.sampling import Sampling, resolve_sampler
from drun.settings import SamplingSettings

#: The fewest pairs: fewer cannot tell a few percent.
LEAST_PAIRS = 3


def loop_rows(opened: Sequence[Opened], bundle: Bundle, settings: LatencySettings, report: Report) -> list[ResultRow]:
    """Times samplings of `drun`, and as many bare calls on fixed arrays; all candidates take turns."""
    card, inputs = bundle.manifest.card, example(bundle, settings.batch)
    drawn = SamplingSettings(*resolve_sampler(card, None, {}), settings.steps)
    samplings = {one.candidate.name: Sampling(card, one, drawn) for one in opened}
    calls: dict[str, Call] = {}
    for one in opened:
        sampling = samplings[one.candidate.name]
        calls[_loop(one, settings)] = _draws(sampling, settings.batch)
        calls[_bare(one, sampling)] = _calls(one, inputs, len(sampling.table.rows))
    pairs = max(LEAST_PAIRS, settings.repeats)
    timings = timing.interleave(
        calls,
        pairs,
        warmup=1,
        pause_s=timing.PAUSE_S if len(opened) > 1 else 0.0,
        on_round=lambda done: report("timing loops", done, pairs),
    )
    rows = []
    for one in opened:
        name = one.candidate.name
        loop, bare = _loop(one, settings), _bare(one, samplings[name])
        headline = f"loop overhead above bare calls on {name}" if one is opened[0] else ""
        overhead = timing.overhead_percent(timings[loop], timings[bare])
        rows += [timing_row(called, timings[called], settings.batch, one.describe()) for called in (loop, bare)]
        rows.append(spread_row(SUITE, f"{name}, loop overhead", overhead, "%", headline=headline))
    return rows


def _loop(one: Opened, settings: LatencySettings) -> str:
    return f"{one.candidate.name}, loop of {settings.steps} steps"


def _bare(one: Opened, sampling: Sampling) -> str:
    return f"{one.candidate.name}, {len(sampling.table.rows)} bare calls"


def _draws(sampling: Sampling, batch: int) -> Call:
    return lambda: sampling.draw(range(batch))


def _calls(opened: Opened, inputs: Inputs, count: int) -> Call:
    def bare() -> None:
        for _ in range(count):
            opened.backend.predict(*inputs)

    return bare
