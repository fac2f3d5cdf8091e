"""How long does the step kernel take beside the loop on the host, on the processor and on a GPU?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.gpu.settings import GpuSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "measure"]

Settings = GpuSettings


def measure(settings: GpuSettings, report: Report) -> Result:
    """Time the step kernel beside the loop on the host, on the processor and on a GPU where there is one."""
    from dbench.suites.gpu import measuring

    return measuring.measure(settings, report)
