"""How many training steps does representation alignment (REPA, Yu et al. 2024) save, and what do the blocks learn?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dbench.suites.repa.settings import RepaSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from dbench.html.chart import Chart
    from drun.console import Report
    from drun.run.images import UInt8

__all__ = ["Settings", "digest", "figures", "measure", "pictures", "section"]

Settings = RepaSettings


def measure(settings: RepaSettings, report: Report) -> Result:
    """Train a recipe plainly, aligned to a teacher, and to one that knows nothing: how many steps to one distance?"""
    from dbench.suites.repa import measuring

    return measuring.measure(settings, report)


def figures(result: Result) -> dict[str, Chart]:
    """Name -> chart; see `plots.draw`."""
    from dbench.suites.repa import plots

    return plots.draw(result)


def pictures(settings: RepaSettings, result: Result) -> dict[str, UInt8]:
    """Images of the arms; see `showing.samples`."""
    from dbench.suites.repa import showing

    return {"samples": showing.samples(settings, result)}


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `table.digest`."""
    from dbench.suites.repa import table

    return table.digest(results)


def section(result: Result, pictures: Mapping[str, Path] = MappingProxyType({})) -> str:
    """HTML of a result, with its images if they are there; see `answer.answered`."""
    from dbench.suites.repa.answer import answered

    return answered(result, pictures)
