"""The few pieces of HTML that a report is made of. Text is escaped here; what is named `markup` is not."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from dbench.core.record import Row, number
from dbench.html import chart
from drun.run.images import UInt8, to_pil

MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp"}


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


def key_numbers(numbers: Iterable[tuple[str, str]]) -> str:
    """(number with its unit, what it is), ..."""
    items = (f"<div><dd>{escape(value)}</dd><dt>{escape(label)}</dt></div>" for value, label in numbers)
    return f'<dl class="key">{"".join(items)}</dl>'


def facts(labelled: Mapping[str, str]) -> str:
    items = (f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in labelled.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """The first column is text, the others are numbers."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    return (
        f'<figure class="numbers"><figcaption>{escape(caption)}</figcaption>\n<div class="wide"><table>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div></figure>"
    )


def results(rows: Iterable[Row], caption: str) -> str:
    """A table of measured numbers."""
    cells = [[row.name, *map(number, (row.value, row.p10, row.p90)), row.unit] for row in rows]
    return table(("what", "value (median)", "p10", "p90", "unit"), cells, caption)


def listed(settings: Mapping[str, Any]) -> str:
    """The settings that are given, as text."""
    return ", ".join(f"{key} {_words(value)}" for key, value in settings.items() if value is not None)


def _words(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def scrolled(markup: str) -> str:
    """What is too wide for a small screen, with a scroll bar of its own."""
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
