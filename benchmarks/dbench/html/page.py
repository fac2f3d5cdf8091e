"""The few pieces of HTML that a report is made of. Text is escaped here; what is named `markup` is not."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from dbench.core import record
from dbench.core.record import Result
from dbench.html import chart
from drun.run.images import UInt8, to_pil

MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True)
class KeyNumber:
    """A key number at the head of a page."""

    number: str  # with its unit
    meaning: str
    spread: str = ""  # p10 to p90
    doubt: str = ""  # why it says little


def document(title: str, markup: str) -> str:
    """A page that needs nothing but itself."""
    style = chart.style() + files("dbench.html").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{markup}
</main>
</body>
</html>
"""


def header(title: str, *markup: str) -> str:
    return "\n".join(["<header>", f"<h1>{escape(title)}</h1>", *markup, "</header>"])


def section(heading: str, *markup: str) -> str:
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *markup, "</section>"])


def subheading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def key_numbers(numbers: Iterable[KeyNumber]) -> str:
    """Cards; a number that says little is marked, and its card says why."""
    return f'<dl class="key">{"".join(map(_card, numbers))}</dl>'


def _card(key: KeyNumber) -> str:
    value = f"{key.number} {record.MARK}" if key.doubt else key.number
    notes = [f"p10 to p90: {key.spread}" if key.spread else "", f"{record.MARK} {key.doubt}" if key.doubt else ""]
    small = "".join(f'<dd class="note">{escape(note)}</dd>' for note in notes if note)
    return f"<div><dt>{escape(key.meaning)}</dt><dd>{escape(value)}</dd>{small}</div>"


def facts(labelled: Mapping[str, str]) -> str:
    items = (f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in labelled.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """The first column is text, the others are numbers."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_cell, head[1:], cells))}</tr>' for name, *cells in rows
    )
    return (
        f'<figure class="numbers"><figcaption>{escape(caption)}</figcaption>\n<div class="wide"><table>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div></figure>"
    )


def _cell(label: str, text: str) -> str:
    """Small screens stack the cells of a row, each behind the label of its column, and leave the empty ones out."""
    return f'<td data-label="{escape(label)}">{escape(text)}</td>'


def results(result: Result, caption: str) -> str:
    """A table of measured numbers, of which those that say little are marked."""
    rows = [record.cells(row, result.machine) for row in result.rows]
    text = ". ".join(filter(None, [caption, record.legend(result)]))
    return table(("what", "value (median)", "p10", "p90", "unit"), rows, f"{text}.")


def measured(result: Result) -> str:
    """A section for a suite that needs no more than its table."""
    caption = f"Of {result.subject['name']}, measured with {listed(result.settings)}"
    return section(result.suite.capitalize(), results(result, caption))


def listed(settings: Mapping[str, Any]) -> str:
    """The settings that are given, as text."""
    return ", ".join(f"{key} {_words(value)}" for key, value in settings.items() if value not in (None, [], ()))


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(map(_words, value))
    return record.number(value) if isinstance(value, bool) else str(value)


def scrolled(markup: str) -> str:
    """Markup with its own scroll bar, for content that is too wide for a small screen."""
    return f'<div class="wide">{markup}</div>'


def figure(markup: str, caption: str) -> str:
    return f"<figure>{markup}<figcaption>{escape(caption)}</figcaption></figure>"


def side_by_side(*markup: str) -> str:
    return f'<div class="pair">{"".join(markup)}</div>'


def image(source: Path | UInt8, alt: str) -> str:
    """A PNG or WebP file, or (H, W, C) uint8 pixels, within the page."""
    if isinstance(source, Path):
        media_type, content = MEDIA_TYPES[source.suffix.lower()], source.read_bytes()
    else:
        media_type, content = "image/png", _png(source)
    return f'<img src="data:{media_type};base64,{b64encode(content).decode()}" alt="{escape(alt)}">'


def _png(pixels: UInt8) -> bytes:
    buffer = BytesIO()
    to_pil(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
