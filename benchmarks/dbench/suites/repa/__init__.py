"""How many training steps does representation alignment (REPA, Yu et al. 2024) save, and what do the blocks learn?"""

from __future__ import annotations

from dbench.core.record import Result
from dbench.suites.repa.plan import RepaSettings
from dbench.suites.repa.plots import draw as figures
from dbench.suites.repa.section import section
from drun.console import Report

__all__ = ["Settings", "figures", "measure", "section"]

Settings = RepaSettings


def measure(settings: RepaSettings, report: Report) -> Result:
    """See `measuring.measure`, which needs torch: reports are made without."""
    from dbench.suites.repa.measuring import measure

    return measure(settings, report)
