"""How fast is a training step, how much of the device does it use, how much memory, and what do teachers cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.train.settings import TrainSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "measure"]

Settings = TrainSettings


def measure(settings: TrainSettings, report: Report) -> Result:
    """Time the training step of a recipe on synthetic data, count its operations and measure its memory."""
    from dbench.suites.train import measuring

    return measuring.measure(settings, report)
