"""What do Core ML packages of a network weigh, lose and take to make, and how long does the reference executor take?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbench.suites.coreml.settings import CoremlSettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report

__all__ = ["Settings", "digest", "measure", "section", "summary"]

Settings = CoremlSettings


def measure(settings: CoremlSettings, report: Report) -> Result:
    """Convert a network to Core ML packages, weigh them, and compute them by the reference executor."""
    from dbench.suites.coreml import measuring

    return measuring.measure(settings, report)


def section(result: Result) -> str:
    """HTML of a result; see `table.packages`."""
    from dbench.suites.coreml.table import packages

    return packages(result)


def digest(results: list[tuple[str, Result]]) -> str:
    """Markdown of published results for the README; see `table.digest`."""
    from dbench.suites.coreml.table import digest

    return digest(results)


def summary(result: Result) -> str:
    """Markdown of a result; see `table.markdown`."""
    from dbench.suites.coreml.table import markdown

    return markdown(result)
