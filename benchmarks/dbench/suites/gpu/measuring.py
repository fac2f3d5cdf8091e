"""Times what lies between two network calls: the loop on the host, and the step kernel on every device that is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np

from dbench.core import machine, timing
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.core.timing import Timing
from dbench.suites.gpu.processor import HAS_COMPILER, Processor
from dbench.suites.gpu.settings import SUITE, GpuSettings
from drun.console import Report, warn
from drun.device import cuda, ptx
from drun.device.device import Device
from drun.device.walk import DeviceWalk
from drun.diffusion import samplers
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import NOBODY, walk
from drun.diffusion.noise import PhiloxNoise
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import StepTable
from drun.files import sha256

#: Of a timed walk: so many that its beginning and its end do not count.
STEPS = 100
HOST = "the loop on the host"


class Silent:
    """A network that takes no time: its output is zeros, which lie there from the beginning."""

    is_capturable = True

    def __init__(self, device: Device, shape: tuple[int, ...]) -> None:
        self.device, self.shape = device, shape

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """See `drun.device.device.Engine`."""
        self.device.upload(np.zeros((batch, *self.shape), np.float32), addresses[-1])
        return lambda: None


def measure(settings: GpuSettings, report: Report) -> Result:
    """Walk through a table with noise in every row on each device, in turns, with a network that takes no time."""
    start = machine.usage()
    shape = (settings.channels, settings.side, settings.side)
    table = samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", STEPS)
    output = np.zeros((settings.batch, *shape), np.float32)
    calls = {HOST: partial(_walked, partial(walk, lambda x, t, labels: output), table, settings.batch, shape)}
    for name, device in devices().items():
        carry = DeviceWalk(device, Silent(device, shape), settings.channels)
        calls[name] = partial(_walked, carry, table, settings.batch, shape)
    times = timing.interleave(
        calls, settings.repeats, on_round=lambda done: report("timing walks", done, settings.repeats)
    )
    rows = [_row(name, found) for name, found in times.items()]
    rows += [_ratio(name, times[HOST], found) for name, found in times.items() if name != HOST]
    subject = {"name": "step-kernel", "kernel_sha256": sha256(ptx.SOURCE)}
    here = machine.fingerprint(machine.num_cores(), since=start)
    return Result(tuple(rows), subject, asdict(settings), here, this_command())


def devices() -> dict[str, Device]:
    """Those that are here, by their names in the results."""
    found: dict[str, Device] = {}
    if HAS_COMPILER:
        found["the step kernel on the processor"] = Processor(machine.num_cores())
    if why := cuda.why_none():
        warn(f"the step kernel is not timed on a GPU: {why}")
    else:
        found["the step kernel on the GPU"] = cuda.Cuda()
    return found


def _walked(carry: Callable[..., object], table: StepTable, batch: int, shape: tuple[int, ...]) -> None:
    noise = PhiloxNoise(0, range(batch), shape)
    carry(table, noise(), None, Guidance(), noise, NOBODY)


def _row(name: str, times: Timing) -> ResultRow:
    per_row = Timing(tuple(ms * 1000 / STEPS for ms in times.latencies_ms))
    return spread_row(SUITE, f"{name}, a row with noise", per_row.spread_ms, "us")


def _ratio(name: str, host: Timing, own: Timing) -> ResultRow:
    ratios = timing.spread([one / other for one, other in zip(host.latencies_ms, own.latencies_ms, strict=True)])
    return spread_row(SUITE, f"{HOST}, times {name}", ratios, "x", headline=f"{HOST} to {name}")
