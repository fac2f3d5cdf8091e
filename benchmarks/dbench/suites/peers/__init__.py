"""How fast are our targets beside what a user would write with each library itself, and how near to eager PyTorch?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbench.suites.peers.settings import PeersSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "digest", "measure", "section", "summary"]

Settings = PeersSettings


def measure(settings: PeersSettings, report: Report) -> Result:
    """Compare speed and parity with PyTorch, ONNX Runtime, OpenVINO and diffusers on the same weights, in turns."""
    from dbench.suites.peers import measuring

    return measuring.measure(settings, report)


def summary(result: Result) -> str:
    """Markdown of a result; see `table.summary`."""
    from dbench.suites.peers import table

    return table.summary(result)


def section(result: Result) -> str:
    """HTML of a result; see `table.section`."""
    from dbench.suites.peers import table

    return table.section(result)


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `table.digest`."""
    from dbench.suites.peers import table

    return table.digest(results)
