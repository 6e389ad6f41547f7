"""What notebooks show of a result: a table, with a picture beneath it. All texts may be those of others."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from deepcr_zoo.errors import printable


def html_table(title: str, rows: Iterable[Sequence[str]], picture: bytes | None = None, header: Sequence[str] = ()) -> str:
    """Return HTML of a table and a PNG; the first cell of each row names it."""
    lines = [_row("th", "th", header)] if header else []
    lines += [_row("th", "td", row) for row in rows]
    image = "" if picture is None else html_image(picture, title)
    return f"<div><table><caption>{_text(title)}</caption>{''.join(lines)}</table>{image}</div>"


def html_image(picture: bytes, title: str) -> str:
    """Return HTML of a PNG that holds it."""
    return f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}" alt="{_text(title)}">'


def _row(first: str, other: str, cells: Sequence[str]) -> str:
    kinds = [first, *[other] * (len(cells) - 1)]
    return f"<tr>{''.join(f'<{kind}>{_text(cell)}</{kind}>' for kind, cell in zip(kinds, cells, strict=True))}</tr>"


def _text(text: str) -> str:
    return "<br>".join(escape(printable(line)) for line in text.split("\n"))
