"""The head of a page: its subject, and the key figures with their spreads and doubts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbench.core import captions, record
from dbench.core.proofs import TargetProof
from dbench.core.record import Result, ResultRow, number
from dbench.html import page
from dbench.html.page import KeyNumber
from dbench.report.sources import Material
from drun.run.parity import worst


def title(material: Material) -> str:
    formats = ", ".join(sorted({artifact.format.upper() for artifact in material.bundle.manifest.artifacts}))
    if material.training is None:
        return f"{material.bundle.name}: exported to {formats}"
    return f"{material.training.recipe['name']}: from training to {formats}"


def head(material: Material, figures: Sequence[KeyNumber]) -> str:
    return page.header(title(material), page.paragraph(_lead(material), "lead"), page.key_numbers(figures))


def key_numbers(results: Sequence[Result], proofs: Sequence[TargetProof]) -> list[KeyNumber]:
    """The rows with a headline, and how many checks of parity passed."""
    rows = [
        _key_number(row, result, _told_apart(result, [other for other in results if other.suite == result.suite]))
        for result in results
        for row in result.rows
        if row.headline
    ]
    return [*rows, _parity(proofs)]


def _parity(proofs: Sequence[TargetProof]) -> KeyNumber:
    checks = [check for proof in proofs for check in proof.checks]
    passed, most = sum(check.passed for check in checks), worst(checks)
    failed = [f"{proof.name} failed" for proof in proofs if proof.error]
    meaning = f"parity checks passed, the worst at {most.relative_l2 / most.tolerance:.0%} of its limit"
    return KeyNumber(f"{passed} of {len(checks)}", meaning, doubt=", ".join(failed))


def _told_apart(result: Result, of_suite: Sequence[Result]) -> str:
    """The words that tell a result from others of its suite: its subject, and settings that differ."""
    if len(of_suite) == 1:
        return ""
    alike = [other.settings for other in of_suite if other.subject == result.subject]
    differing = {
        key: value for key, value in result.settings.items() if any(other.get(key) != value for other in alike)
    }
    return ", ".join(filter(None, [result.subject["name"], page.listed(differing)]))


def _key_number(row: ResultRow, result: Result, name: str) -> KeyNumber:
    meaning = f"{row.headline} ({name})" if name else row.headline
    spread = "" if row.p10 is None or row.p90 is None else f"{number(row.p10)} to {number(row.p90)}"
    return KeyNumber(_with_unit(row), meaning, spread, record.doubt(row, result.machine))


def _with_unit(row: ResultRow) -> str:
    return f"{number(row.value)}×" if row.unit == "x" else f"{number(row.value)} {row.unit}".rstrip()


def _lead(material: Material) -> str:
    model = material.bundle.manifest.model
    sentences = [
        f"A {model.name} of {model.parameters:,} parameters",
        _trained(material),
        f"exported with its {captions.weights(model.checkpoint)}",
    ]
    if material.drawn is not None:
        run, settings = material.drawn.run, material.drawn.run["settings"]
        how = f"in {settings['num_steps']} {settings['sampler']} steps on {settings['backend']}"
        sentences.append(f"and sampled without PyTorch: {run['num_images']:,} images {how}")
    return ", ".join(sentence for sentence in sentences if sentence) + "."


def _trained(material: Material) -> str:
    """The images and the length of the training, if bundle and run state them."""
    run, seen = material.training, material.bundle.manifest.trained_on
    if run is None and seen is None:
        return ""
    parts = ["trained in PyTorch"]
    if seen is not None:
        side, colour = seen.image_size, "grey" if seen.channels == 1 else "colour"
        parts = [f"{parts[0]} on {seen.num_images:,} images of '{Path(seen.source).name}'", f"{side}x{side} {colour}"]
    if run is not None:
        parts.append(f"for {run.steps[-1]:,} steps of {run.recipe['train']['batch_size']} images")
    return ", ".join(parts)
