"""How fast is a network call on each backend, what does the loop add, how soon is an image there, how much memory?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from dbench.core import machine, subject, timing
from dbench.core.inputs import Inputs, check_batch, example
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.core.timing import Call, Timing
from dbench.html.page import measured as section
from dbench.suites.latency import processes
from dbench.suites.latency.settings import SUITE, LatencySettings
from drun.backends import RuntimeOptions
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.console import Report
from drun.diffusion.arrays import Array, State
from drun.errors import ConfigError
from drun.files import sha256
from drun.run import parity
from drun.run.opening import Opened, candidates, choose, open_candidate
from drun.run.sampling import Sampling, SamplingSettings, resolve_sampler

__all__ = ["Settings", "measure", "section"]

Settings = LatencySettings

EAGER = "eager torch"


def measure(settings: LatencySettings, report: Report) -> Result:
    """Time calls, loops and cold starts and weigh processes, every candidate with the same threads and inputs.

    Raises:
        ConfigError: a checkpoint whose weights are not in the bundle, or a batch that an artifact lacks.
        BackendUnavailable: nothing here opens the bundle.
    """
    bundle = bundles.open_bundle(settings.bundle)
    threads = settings.threads or machine.num_cores()
    start = machine.usage()
    names = settings.backends or tuple(dict.fromkeys(one.backend for one in candidates(bundle)))
    for name in names:
        check_batch(choose(bundle, name), settings.batch)
    rows = _in_this_process(bundle, names, settings, threads, report)
    for name in names:
        rows += processes.rows_of(bundle, name, settings, threads, report)
    shown = {key: value for key, value in asdict(settings).items() if key != "bundle"}
    resolved = shown | {
        "checkpoint": bundle.manifest.model.checkpoint["file"] if settings.checkpoint else None,
        "backends": names,
        "threads": threads,
    }
    here = machine.fingerprint(threads, since=start)
    return Result(tuple(rows), subject.of_bundle(bundle), resolved, here, this_command())


def _in_this_process(
    bundle: Bundle, names: tuple[str, ...], settings: LatencySettings, threads: int, report: Report
) -> list[ResultRow]:
    inputs = example(bundle, settings.batch)
    with ExitStack() as stack:
        eager = None
        if settings.checkpoint is not None:
            eager = stack.enter_context(eager_call(bundle, settings.checkpoint, inputs, threads))
        opened = {
            name: stack.enter_context(open_candidate(bundle, choose(bundle, name), RuntimeOptions(threads)))
            for name in names
        }
        rows = call_rows(opened, eager, inputs, settings, report)
        for name, one in opened.items():
            rows += loop_rows(name, one, bundle, settings, report)
    return rows


# ---- one call -------------------------------------------------------------------------------------------


@contextmanager
def eager_call(bundle: Bundle, checkpoint: Path, inputs: Inputs, threads: int) -> Iterator[Callable[[], Array]]:
    """A call of the eager PyTorch network that the bundle was exported from, on `inputs`, with `threads` threads.

    Raises:
        ConfigError: the checkpoint is not the bundle's.
    """
    known = bundle.manifest.model.checkpoint
    if not checkpoint.is_file():
        raise ConfigError(f"no such checkpoint: '{checkpoint}'")
    if (digest := sha256(checkpoint)) != known["sha256"]:
        raise ConfigError(
            f"'{checkpoint}' is not what '{bundle.name}' was exported from: sha256 got {digest[:12]}…, "
            f"expected {known['sha256'][:12]}… ({known['file']})"
        )
    import torch

    from dtrain import published

    network = published.load(checkpoint, known["weights"], known["settings"]).network
    tensors = [torch.from_numpy(array) for array in inputs]

    def call() -> Array:
        with torch.inference_mode():
            return network(*tensors).numpy()

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield call
    finally:
        torch.set_num_threads(threads_before)


def call_rows(
    opened: dict[str, Opened],
    eager: Callable[[], Array] | None,
    inputs: Inputs,
    settings: LatencySettings,
    report: Report,
) -> list[ResultRow]:
    """Latency of one call on each candidate, taking turns; with `eager`, the ratio and the difference to it."""
    calls: dict[str, Call] = {} if eager is None else {EAGER: eager}
    calls |= {name: partial(one.backend.predict, *inputs) for name, one in opened.items()}
    timings = timing.interleave(
        calls, settings.repeats, lead_in=timing.LEAD_IN, pause_s=timing.PAUSE_S,
        on_round=lambda done: report("timing calls", done, settings.repeats),
    )  # fmt: skip
    runs_on = {EAGER: "PyTorch on CPU"} | {name: one.describe() for name, one in opened.items()}
    rows = [_timing_row(f"{name}, call", timings[name], settings.batch, runs_on[name]) for name in timings]
    if eager is not None:
        for name, one in opened.items():
            rows += _ratio_rows(name, timings[EAGER], timings[name])
            error = parity.compare(name, eager(), one.backend.predict(*inputs), 0.0).relative_l2
            rows.append(ResultRow(SUITE, f"{name}, relative L2 to {EAGER}", error, ""))
    return rows


def _timing_row(name: str, times: Timing, batch: int, runs_on: str) -> ResultRow:
    details = {"runs_on": runs_on, "batch": batch, "latencies_ms": times.latencies_ms}
    return spread_row(SUITE, name, times.spread_ms, "ms", details=details)


def _ratio_rows(name: str, eager: Timing, backend: Timing) -> list[ResultRow]:
    pairwise = timing.pairwise_ratio(eager, backend)
    ratio = timing.ratio_of_medians(eager, backend)
    return [
        ResultRow(SUITE, f"{EAGER} / {name}, of medians", ratio, "x"),
        spread_row(
            SUITE, f"{EAGER} / {name}, pairwise", pairwise, "x", headline=f"faster than {EAGER}: a call on {name}"
        ),
    ]


# ---- the loop -------------------------------------------------------------------------------------------


def loop_rows(name: str, opened: Opened, bundle: Bundle, settings: LatencySettings, report: Report) -> list[ResultRow]:
    """A whole sampling, as `drun` does it, against as many bare calls of the backend on fixed arrays."""
    sampling = Sampling(bundle.manifest.card, opened, _drun_settings(bundle, settings.steps))
    inputs, num_calls = example(bundle, settings.batch), len(sampling.table.rows)
    pairs = max(3, settings.repeats)

    def bare() -> None:
        for _ in range(num_calls):
            opened.backend.predict(*inputs)

    loop = f"{name}, loop of {settings.steps} steps"
    timings = timing.interleave(
        {"loop": lambda: _draw(sampling, settings.batch), "bare": bare}, pairs, warmup=1,
        on_round=lambda done: report(f"timing the loop on {name}", done, pairs),
    )  # fmt: skip
    overhead = timing.overhead_percent(timings["loop"], timings["bare"])
    return [
        _timing_row(loop, timings["loop"], settings.batch, opened.describe()),
        _timing_row(f"{name}, {num_calls} bare calls", timings["bare"], settings.batch, opened.describe()),
        spread_row(SUITE, f"{name}, loop overhead", overhead, "%", headline=f"loop overhead above bare {name} calls"),
    ]


def _drun_settings(bundle: Bundle, num_steps: int) -> SamplingSettings:
    return SamplingSettings(*resolve_sampler(bundle.manifest.card, None, {}), num_steps)


def _draw(sampling: Sampling, batch: int) -> State:
    return sampling.draw(range(batch))
