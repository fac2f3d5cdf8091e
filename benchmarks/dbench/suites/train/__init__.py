"""How fast is a training step, how much of the device does it use, how much memory, and what do teachers cost?"""

from __future__ import annotations

from dbench.core.record import Result
from dbench.html.page import measured as section
from dbench.suites.train.settings import TrainSettings
from drun.console import Report

__all__ = ["Settings", "measure", "section"]

Settings = TrainSettings


def measure(settings: TrainSettings, report: Report) -> Result:
    """See `measuring.measure`, which needs torch: reports are made without."""
    from dbench.suites.train.measuring import measure

    return measure(settings, report)
