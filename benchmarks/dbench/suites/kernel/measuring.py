"""Times what lies between two network calls: the loop on the host, and the step kernel on every device that is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbench.core import machine, timing
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.core.timing import Timing
from dbench.suites.kernel.processor import HAS_COMPILER, Processor
from dbench.suites.kernel.settings import SUITE, KernelSettings
from drun.console import Report, warn
from drun.device import cuda, ptx
from drun.device.device import Device
from drun.device.walk import DeviceWalk
from drun.diffusion import samplers
from drun.diffusion.arrays import State
from drun.diffusion.guidance import Guidance, with_guidance
from drun.diffusion.loop import NOBODY, walk
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import StepTable
from drun.files import sha256
from drun.run import parity

#: Of a timed walk: so many that its beginning and its end do not count.
STEPS = 1000
#: Of the walks that are compared, their guidance, and the relative L2 that passes: a GPU's elementary functions may
#: differ from the processor's in the last place.
COMPARED_STEPS, WEIGHTS, ALLOWED = 250, (1.0, 1.8), 1e-5
PROCESSES: dict[str, Process] = {"noise": DiscreteProcess("linear"), "velocity": FlowProcess("linear")}
HOST = "the loop on the host"


class ConstantNetwork:
    """A network that takes no time: its outputs lie there from the beginning, the same numbers in every row.

    outputs: (2 N, C, H, W) float32.
    """

    def __init__(self, outputs: NDArray[np.float32]) -> None:
        self.outputs = outputs

    def predict(self, x: Any, t: float, labels: Any = None) -> NDArray[np.float32]:
        """On the host; guidance overwrites it."""
        return self.outputs[: len(x)].copy()

    def on(self, device: Device) -> DeviceWalk:
        """A walk with it on a device."""
        return DeviceWalk(device, _OnDevice(self.outputs, device), self.outputs.shape[1])


class _OnDevice:
    is_capturable = True

    def __init__(self, outputs: NDArray[np.float32], device: Device) -> None:
        self.outputs, self.device = outputs, device

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """See `drun.device.device.Engine`."""
        self.device.upload(self.outputs, addresses[-1])
        return lambda: None


def measure(settings: KernelSettings, report: Report) -> Result:
    """Compare walks by every sampler, then time walks with noise in every row, by a network that takes no time."""
    start, here = machine.usage(), devices()
    rows = [*_agreement(settings, here, report), *_speeds(settings, here, report)]
    subject = {"name": "step-kernel", "kernel_sha256": sha256(ptx.SOURCE)}
    fingerprint = machine.fingerprint(machine.num_cores(), since=start)
    resolved = asdict(settings) | {"devices": [*here], "gpu": fingerprint.gpu}
    return Result(tuple(rows), subject, resolved, fingerprint, this_command())


def devices() -> dict[str, Device]:
    """Those that are here, by their names in the results."""
    found: dict[str, Device] = {}
    if HAS_COMPILER:
        found["the step kernel on the processor"] = Processor(machine.num_cores())
    if why := cuda.why_none():
        warn(f"the step kernel is not measured on a GPU: {why}")
    else:
        found["the step kernel on the GPU"] = cuda.Cuda()
    return found


# ---- agreement ------------------------------------------------------------------------------------------


def _agreement(settings: KernelSettings, here: dict[str, Device], report: Report) -> list[ResultRow]:
    """The largest difference of a final state from the host's, over all samplers, processes and guidance."""
    shape = (settings.channels, settings.side, settings.side)
    outputs = np.random.default_rng(0).standard_normal((2 * settings.batch, *shape), dtype=np.float32)
    network, tables = ConstantNetwork(outputs), [*_tables()]
    carries = {name: network.on(device) for name, device in here.items()}
    errors: dict[str, list[parity.Comparison]] = {name: [] for name in carries}
    for done, (name, table) in enumerate(tables):
        report("comparing walks", done, len(tables))
        expected = _walked(partial(walk, network.predict), table, settings.batch, shape)
        for device, carry in carries.items():
            got = _walked(carry, table, settings.batch, shape)
            errors[device].append(parity.compare(name, expected, got, ALLOWED))
    report("comparing walks", len(tables), len(tables))
    return [_agreement_row(device, parity.worst(found)) for device, found in errors.items()]


def _tables() -> Iterator[tuple[str, StepTable]]:
    """Names and tables: every sampler on every process that it can run, plain and guided."""
    for prediction, process in PROCESSES.items():
        for sampler in samplers.fitting(process):
            for weight in WEIGHTS:
                table = samplers.step_table(sampler, process, prediction, COMPARED_STEPS)
                yield f"{sampler} of {prediction}, guided {weight:g} times", with_guidance(table, weight)


def _agreement_row(name: str, worst: parity.Comparison) -> ResultRow:
    doubt = None if worst.passed else f"it is not what the host computes: {ALLOWED:g} is allowed"
    details = {"at": worst.name, "allowed": ALLOWED}
    title = f"{name}, worst relative L2 to the host after {COMPARED_STEPS} steps"
    return ResultRow(SUITE, title, worst.relative_l2, "", details=details, doubt=doubt)


# ---- speed ----------------------------------------------------------------------------------------------


def _speeds(settings: KernelSettings, here: dict[str, Device], report: Report) -> list[ResultRow]:
    """Walks in turns: what a row takes, and what the host takes to that."""
    shape = (settings.channels, settings.side, settings.side)
    table = samplers.step_table("ddpm", PROCESSES["noise"], "noise", STEPS)
    output = np.zeros((2 * settings.batch, *shape), np.float32)
    carries: dict[str, Callable[..., State]] = {HOST: partial(walk, lambda x, t, labels: output[: len(x)])}
    carries |= {name: ConstantNetwork(output).on(device) for name, device in here.items()}
    calls = {name: partial(_walked, carry, table, settings.batch, shape) for name, carry in carries.items()}
    times = timing.interleave(
        calls, settings.repeats, on_round=lambda done: report("timing walks", done, settings.repeats)
    )
    rows = [_row(name, found) for name, found in times.items()]
    return rows + [_ratio(name, times[HOST], found) for name, found in times.items() if name != HOST]


def _walked(carry: Callable[..., State], table: StepTable, batch: int, shape: tuple[int, ...]) -> State:
    noise = PhiloxNoise(0, range(batch), shape)
    labels = np.zeros(batch, np.int64) if any(row.w != 1 for row in table.rows) else None
    return carry(table, noise(), labels, Guidance(), noise, NOBODY)


def _row(name: str, times: Timing) -> ResultRow:
    per_row = Timing(tuple(ms * 1000 / STEPS for ms in times.latencies_ms))
    return spread_row(SUITE, f"{name}, a row with noise", per_row.spread_ms, "us")


def _ratio(name: str, host: Timing, own: Timing) -> ResultRow:
    ratios = timing.pairwise_ratio(host, own)
    return spread_row(SUITE, f"{HOST}, times {name}", ratios, "x", headline=f"{HOST} to {name}")
