"""How many training steps does representation alignment (REPA, Yu et al. 2024) save, and what do the blocks learn?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.repa.settings import RepaSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from dbench.html.chart import Chart
    from drun.console import Report

__all__ = ["Settings", "figures", "measure", "section"]

Settings = RepaSettings


def measure(settings: RepaSettings, report: Report) -> Result:
    """Train digits-sit with and without representation alignment, and compare the steps to one Fréchet distance."""
    from dbench.suites.repa import measuring

    return measuring.measure(settings, report)


def figures(result: Result) -> dict[str, Chart]:
    """Name -> chart; see `plots.draw`."""
    from dbench.suites.repa import plots

    return plots.draw(result)


def section(result: Result) -> str:
    """HTML of a result; see `answer.answered`."""
    from dbench.suites.repa.answer import answered

    return answered(result)
