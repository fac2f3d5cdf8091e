"""One HTML page about one model: trained, sampled, measured and proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dbench import suites
from dbench.core.proofs import TargetProof, prove
from dbench.core.record import Result
from dbench.html import page
from dbench.html.page import KeyNumber
from dbench.report import head, proofs, sections
from dbench.report.sources import Material, Sources, gather
from drun.console import Report
from drun.errors import UserError, door
from drun.files import atomic

__all__ = ["Sources", "write_report"]


def write_report(out: Path, sources: Sources, report: Report) -> list[KeyNumber]:
    """Write one self-contained HTML file, for which parity is proven again.

    Returns:
        The page's key figures.

    Raises:
        UserError: as `gather`; a file is not what it should be; or no backend here can open the bundle.
    """
    what = "the report's sources are not what dtrain, drun and dbench write"
    with door(what, advice="make them again", passing=UserError):
        material = gather(sources)
        proven = prove(material.bundle, report)
        figures = head.key_numbers(material.results, proven)
        parts = [head.head(material, figures), *_parts(material, proven)]
        markup = page.document(head.title(material), "\n".join(parts))
    with atomic(out) as temporary:
        temporary.write_text(markup, encoding="utf-8")
    return figures


def _parts(material: Material, proven: list[TargetProof]) -> list[str]:
    """The parts in their order: results about samples follow the samples, all others follow the proof."""
    of_samples = [result for result in material.results if "samples_sha256" in result.subject]
    others = [result for result in material.results if "samples_sha256" not in result.subject]
    return [
        *([sections.training(material.training)] if material.training else []),
        *([sections.samples(material, material.drawn)] if material.drawn else []),
        *(_section(result, material) for result in of_samples),
        proofs.section(proven),
        *(_section(result, material) for result in others),
        sections.conditions(material),
    ]


def _section(result: Result, material: Material) -> str:
    """The suite's own section, or a table."""
    section: Callable[..., str] = getattr(suites.load(result.suite), "section", page.measured)
    pictures = material.pictures.get(result.file_name)
    return section(result, pictures) if pictures else section(result)
