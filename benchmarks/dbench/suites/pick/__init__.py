"""Which backend, artifact, arithmetic and device is the fastest for a bundle on this machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.pick.settings import PickSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "measure"]

Settings = PickSettings


def measure(settings: PickSettings, report: Report) -> Result:
    """Time everything that passes its proof here, and note the winner: drun --backend auto takes it from now on."""
    from dbench.suites.pick import measuring

    return measuring.measure(settings, report)
