"""Which ONNX graph and which session settings are the fastest in ONNX Runtime on a processor, and what do they lose?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.graphs.settings import GraphsSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "measure", "section", "summary"]

Settings = GraphsSettings


def measure(settings: GraphsSettings, report: Report) -> Result:
    """Time every ONNX graph of a network and every way to run it, in turns, and compare it with eager PyTorch."""
    from dbench.suites.graphs import measuring

    return measuring.measure(settings, report)


def section(result: Result) -> str:
    """HTML of a result; see `table.compared`."""
    from dbench.suites.graphs.table import compared

    return compared(result)


def summary(result: Result) -> str:
    """Markdown of a result; see `table.markdown`."""
    from dbench.suites.graphs.table import markdown

    return markdown(result)
