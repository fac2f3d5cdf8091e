"""Times steps of each candidate in turns with matrix products, and computes rows from the times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from dbench.core import timing
from dbench.core.matmuls import Matmuls, synchronise
from dbench.core.record import ResultRow, spread_row
from dbench.core.timing import Timing
from dbench.suites.train.candidates import LEAD_IN_ROUNDS
from dbench.suites.train.memory import GpuPeak
from dbench.suites.train.settings import SUITE, TEACHER, TrainSettings
from dbench.suites.train.trial import Trial
from dbench.suites.train.work import Flops
from drun.console import Report
from dtrain.device import Placement

MATMUL = "matrix rate"
READINGS = 5
MB, TERA = 1e6, 1e12
#: Published figures to compare with, by recipe and batch.
BARS = {
    ("sit-xl-2-repa", 256): (
        "REPA's official code: 5.4 steps/s on 8 H100, 0.68 steps/s for each at batch 256; aim: 2 steps/s on one H200"
    ),
}


@dataclass(frozen=True)
class WarmCandidate:
    """A warm run, and its figures so far."""

    trial: Trial
    flops: Flops
    first_step_s: float
    peak: GpuPeak | None


def timed_rows(
    opened: dict[str, WarmCandidate], matmuls: Matmuls, placement: Placement, settings: TrainSettings, report: Report
) -> list[ResultRow]:
    """A step of each candidate and a burst of matrix products, in turns."""
    steps = {name: candidate.trial.whole_step for name, candidate in opened.items()}
    calls: dict[str, Callable[[], object]] = {**steps, MATMUL: matmuls}
    timings = timing.interleave(
        calls,
        settings.steps,
        warmup=LEAD_IN_ROUNDS,
        on_round=lambda done: report("timing steps", done, settings.steps),
    )
    readings = timing.interleave({name: candidate.trial.read for name, candidate in opened.items()}, READINGS, warmup=1)
    rates = [matmuls.flops / (latency_ms / 1e3) for latency_ms in timings[MATMUL].latencies_ms]
    rows = []
    for name, candidate in opened.items():
        rows += _speed_rows(name, candidate, timings[name], placement)
        rows += _work_rows(name, candidate, timings[name], rates)
        reading = readings[name].spread_ms
        rows.append(spread_row(SUITE, f"{name}, reading a batch, beside the step before", reading, "ms"))
        first = f"{name}, first step, with all that is compiled then"
        rows.append(ResultRow(SUITE, first, candidate.first_step_s, "s"))
        if candidate.peak is not None:
            rows += _gpu_rows(name, candidate.peak)
        if placement.device.type != "cpu":
            rows.append(_unbroken_row(name, candidate.trial, settings.steps))
    return [*rows, *_ratio_rows(timings), _rate_row(matmuls, rates, placement)]


def _speed_rows(name: str, candidate: WarmCandidate, times: Timing, placement: Placement) -> list[ResultRow]:
    recipe = candidate.trial.run.recipe
    batch = recipe.train.batch_size
    bar = {"bar": BARS[recipe.name, batch]} if (recipe.name, batch) in BARS else {}
    steps = [1e3 / latency_ms for latency_ms in times.latencies_ms]
    images = timing.spread([batch * each for each in steps])
    details = {
        "runs_on": runs_on(placement),
        "precision": placement.precision,
        "batch": batch,
        "loss": candidate.trial.loss,
        "latencies_ms": times.latencies_ms,
    }
    return [
        spread_row(SUITE, f"{name}, step of {batch} images", times.spread_ms, "ms", details=details),
        spread_row(SUITE, f"{name}, steps a second", timing.spread(steps), "1/s", details=bar),
        spread_row(SUITE, f"{name}, images a second", images, "1/s"),
    ]


def _work_rows(name: str, candidate: WarmCandidate, times: Timing, rates: list[float]) -> list[ResultRow]:
    """The operations of a step, and their share of the matrix rate of the same round."""
    batch, each = candidate.trial.run.recipe.train.batch_size, candidate.flops
    seconds = [latency_ms / 1e3 for latency_ms in times.latencies_ms]

    def share(count: int) -> timing.Spread:
        pairs = zip(seconds, rates, strict=True)
        return timing.spread([100 * batch * count / step_s / rate for step_s, rate in pairs])

    counted = {f"{part}_flops_an_image": count for part, count in asdict(each).items()}
    return [
        ResultRow(SUITE, f"{name}, counted work of a step", batch * each.total / TERA, "TFLOP", details=counted),
        spread_row(
            SUITE,
            f"{name}, share of the matrix rate",
            share(each.total),
            "%",
            details={"of_the_trained_parts_alone": share(each.trained).median},
        ),
    ]


def _gpu_rows(name: str, peak: GpuPeak) -> list[ResultRow]:
    of = {"of": "this candidate alone, PyTorch's allocator: what the others hold at rest is subtracted"}
    sizes = {"allocated": peak.allocated_bytes, "reserved": peak.reserved_bytes}
    return [
        ResultRow(SUITE, f"{name}, peak GPU memory {what}", size / MB, "MB", details={"bytes": size} | of)
        for what, size in sizes.items()
    ]


def _unbroken_row(name: str, trial: Trial, num_steps: int) -> ResultRow:
    """A step as in `dtrain run`: the processor prepares the next step while the device still computes this one."""
    start_s = time.perf_counter()
    for _ in range(num_steps):
        trial.step()
    synchronise(trial.device)
    rate = num_steps / (time.perf_counter() - start_s)
    return ResultRow(SUITE, f"{name}, steps a second in one unbroken row", rate, "1/s", details={"steps": num_steps})


def _ratio_rows(timings: dict[str, Timing]) -> list[ResultRow]:
    """The ratios of step times, from the pairs of each round."""
    names = [f"teacher {word}" for word in TEACHER if f"teacher {word}" in timings]
    pairs = [(above, below) for i, above in enumerate(names) for below in names[i + 1 :]]
    return [
        spread_row(
            SUITE,
            f"step, {above} / {below}",
            timing.pairwise_ratio(timings[above], timings[below]),
            "x",
            details={"of_medians": timing.ratio_of_medians(timings[above], timings[below])},
        )
        for above, below in pairs
    ]


def _rate_row(matmuls: Matmuls, rates: list[float], placement: Placement) -> ResultRow:
    details = {
        "side": matmuls.side,
        "precision": placement.precision,
        "float32": torch.get_float32_matmul_precision(),
    }
    spread = timing.spread([rate / TERA for rate in rates])
    return spread_row(SUITE, f"{MATMUL}, measured in turns with the steps", spread, "TFLOP/s", details=details)


def runs_on(placement: Placement) -> str:
    device = placement.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"PyTorch {'compiled ' if placement.compile else ''}on {name}"
