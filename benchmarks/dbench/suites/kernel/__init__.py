"""What does the step kernel compute and how long does it take, beside the loop on the host?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.kernel.settings import KernelSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "measure"]

Settings = KernelSettings


def measure(settings: KernelSettings, report: Report) -> Result:
    """Compare and time the step kernel and the loop on the host, on the processor and on a GPU where there is one."""
    from dbench.suites.kernel import measuring

    return measuring.measure(settings, report)
