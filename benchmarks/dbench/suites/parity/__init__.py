"""How far is each target of a bundle from eager PyTorch, on a device of this machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.parity.settings import ParitySettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "failure", "measure"]

Settings = ParitySettings


def measure(settings: ParitySettings, report: Report) -> Result:
    """Run the golden file of a bundle on everything that opens it on a device, and keep the errors as a result."""
    from dbench.suites.parity import measuring

    return measuring.measure(settings, report)


def failure(result: Result) -> str | None:
    """See `measuring.failure`."""
    from dbench.suites.parity import measuring

    return measuring.failure(result)
