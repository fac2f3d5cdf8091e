"""How many images a second does each way to sample draw, and how much of the device's matrix rate does it use?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbench.suites.throughput.settings import ThroughputSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "digest", "measure", "summary"]

Settings = ThroughputSettings


def measure(settings: ThroughputSettings, report: Report) -> Result:
    """Draw whole batches by the papers' own loop, eager and compiled, and by drun, all in turns."""
    from dbench.suites.throughput import measuring

    return measuring.measure(settings, report)


def summary(result: Result) -> str:
    """Markdown of a result; see `table.summary`."""
    from dbench.suites.throughput import table

    return table.summary(result)


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `table.digest`."""
    from dbench.suites.throughput import table

    return table.digest(results)
