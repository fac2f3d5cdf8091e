"""How fast is a network call on each target, what does the loop add, how soon is an image there, how much memory?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbench.suites.latency.settings import LatencySettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "digest", "measure", "section"]

Settings = LatencySettings


def measure(settings: LatencySettings, report: Report) -> Result:
    """Time network calls, the sampling loop and the cold start, and measure the memory of the process."""
    from dbench.suites.latency import measuring

    return measuring.measure(settings, report)


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `table.digest`."""
    from dbench.suites.latency import table

    return table.digest(results)


def section(result: Result) -> str:
    """HTML of a result; see `table.speeds`."""
    from dbench.suites.latency.table import speeds

    return speeds(result)
