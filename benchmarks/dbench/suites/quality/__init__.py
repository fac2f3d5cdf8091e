"""How real are the samples? Their Fréchet distance to real images, on a scale from other real images to noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dbench.suites.quality.settings import QualitySettings

if TYPE_CHECKING:
    from dbench.core.record import Result
    from drun.console import Report
    from drun.run.images import UInt8

__all__ = ["Settings", "digest", "measure", "pictures", "section"]

Settings = QualitySettings


def measure(settings: QualitySettings, report: Report) -> Result:
    """Measure the Fréchet distance of samples to real images, beside that of other real images and of noise."""
    from dbench.suites.quality import measuring

    return measuring.measure(settings, report)


def digest(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown of all published results; see `judgement.digest`."""
    from dbench.suites.quality import judgement

    return judgement.digest(results)


def pictures(settings: QualitySettings, result: Result) -> dict[str, UInt8]:
    """File name without suffix -> picture; see `measuring.pictures`."""
    from dbench.suites.quality import measuring

    return measuring.pictures(settings, result)


def section(result: Result, pictures: Mapping[str, Path] = MappingProxyType({})) -> str:
    """HTML of a result, with its picture if that is there; see `judgement.judged`."""
    from dbench.suites.quality.judgement import judged

    return judged(result, pictures)
