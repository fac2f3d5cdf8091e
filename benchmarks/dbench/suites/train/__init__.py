"""How fast is a training step, how much of the device does it use, how much memory, and what do teachers cost?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbench.suites.train.settings import TrainSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "digest", "measure"]

Settings = TrainSettings


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `table.digest`."""
    from dbench.suites.train import table

    return table.digest(results)


def measure(settings: TrainSettings, report: Report) -> Result:
    """Time the training step of a recipe on synthetic data, count its operations and measure its memory."""
    from dbench.suites.train import measuring

    return measuring.measure(settings, report)
